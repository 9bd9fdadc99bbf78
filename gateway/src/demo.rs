//! `tickgate demo` (in progress).
use tickgate_gateway::cli::DemoArgs;

pub fn run(_args: &DemoArgs) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
