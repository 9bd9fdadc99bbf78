//! Configuration files: errors that can be told, or a configuration that loads as the same again.

use tickgate_gateway::config::Config;
use tickgate_gateway::config::load::Sources;

/// Feeds it one input.
pub fn check(text: &str) {
    match Config::load(&Sources::new().text("fuzz.toml", text)) {
        Ok(config) => {
            let again = Config::load(&Sources::new().text("again.toml", &config.to_toml()));
            assert_eq!(again.as_ref(), Ok(&config));
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}
