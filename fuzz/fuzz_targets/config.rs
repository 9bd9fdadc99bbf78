//! Configuration files: errors that can be told, or a configuration that loads as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickgate_gateway::config::Config;
use tickgate_gateway::config::load::Sources;

fuzz_target!(|text: &str| {
    match Config::load(&Sources::new().text("fuzz.toml", text)) {
        Ok(config) => {
            let again = Config::load(&Sources::new().text("again.toml", &config.to_toml()));
            assert_eq!(again.as_ref(), Ok(&config));
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
});
