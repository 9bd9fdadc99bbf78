//! Results as JSON, as tables, and as plots.

mod plots;
mod tables;

use super::results::Results;
use std::fs;
use std::path::Path;

pub use tables::markdown;

/// Writes everything into `dir`.
pub fn write(results: &Results, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("results.json"), serde_json::to_string_pretty(results)?)?;
    let mut text = markdown(results);
    for (name, title, svg) in plots::all(results) {
        fs::write(dir.join(&name), svg)?;
        text.push_str(&format!("\n![{title}]({name})\n"));
    }
    fs::write(dir.join("README.md"), text)?;
    Ok(())
}
