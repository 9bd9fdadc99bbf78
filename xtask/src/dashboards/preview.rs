//! Pictures of the dashboards without Grafana: a page of ours draws the same JSON with the same Prometheus, in Chromium.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::prove::wait;
use super::stage::Stage;
use super::{DIR, fresh_dir, names_in};
use crate::setup::{self, Need};
use crate::shell::{self, step};

const PAGE: &str = "dashboards/preview";
const PICTURES: &str = "dashboards/previews";
/// Long enough for lines to be lines.
const LOAD: Duration = Duration::from_secs(90);
const STEP_S: f64 = 1.0;
/// A screen's shape, and small enough for a README.
const SIZE: &str = "1440,870";
/// How long a page may take, in its own time, until it is drawn.
const DRAWN_MS: u32 = 20_000;

/// Draws every dashboard.
pub fn preview() -> Result<()> {
    setup::ensure(&[Need::Chromium])?;
    let mut stage = Stage::set()?;
    let began = now_s()?;
    stage.load()?;
    wait(&mut stage, "load, for lines that can be seen", LOAD)?;

    let page = fresh_dir("preview")?;
    for entry in fs::read_dir(shell::root().join(PAGE)).with_context(|| format!("reading {PAGE}"))? {
        let entry = entry.with_context(|| format!("reading {PAGE}"))?;
        fs::copy(entry.path(), page.join(entry.file_name())).context("copying the page")?;
    }
    let (boards, pictures) = (shell::root().join(DIR), shell::root().join(PICTURES));
    fs::create_dir_all(&pictures).with_context(|| format!("making {PICTURES}"))?;
    let range = serde_json::json!({ "from": began, "to": now_s()?, "step": STEP_S });
    for name in names_in(&boards)? {
        let text = fs::read_to_string(boards.join(&name)).with_context(|| format!("reading {name}"))?;
        let board: Value = serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?;
        let prometheus = stage.prometheus().address;
        let data = format!(
            "const BOARD = {board};\nconst PROMETHEUS = \"http://{prometheus}\";\nconst RANGE = {range};\n"
        );
        fs::write(page.join("data.js"), data).context("writing data.js")?;
        draw(&page, &pictures.join(name.replace(".json", ".png")))?;
    }
    step(format_args!("pictures in {PICTURES}"));
    Ok(())
}

/// Has Chromium open the page, and takes its picture.
fn draw(page: &Path, picture: &Path) -> Result<()> {
    // A picture of before is no picture of now.
    if picture.exists() {
        fs::remove_file(picture).with_context(|| format!("removing {}", picture.display()))?;
    }
    let mut command = Command::new("chromium");
    command.args(["--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]);
    if rustix::process::geteuid().is_root() {
        // As root there is no sandbox; the page is ours.
        command.arg("--no-sandbox");
    }
    command.arg(format!("--user-data-dir={}", page.join("profile").display()));
    command.arg(format!("--window-size={SIZE}")).arg(format!("--virtual-time-budget={DRAWN_MS}"));
    command.arg(format!("--screenshot={}", picture.display()));
    command.arg(format!("file://{}", page.join("index.html").display()));
    let output = shell::output(&mut command);
    ensure!(picture.is_file(), "Chromium takes no picture: {}", output.unwrap_or_default());
    Ok(())
}

fn now_s() -> Result<f64> {
    Ok(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("this machine's clock is before 1970")?
        .as_secs_f64())
}
