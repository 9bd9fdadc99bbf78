//! The gate: what the hot path costs in figures that neither other programs nor the machine change.
//!
//! Instructions are counted by callgrind: of each step by itself ([`steps`]), and on the shard's thread for a delivery
//! as a whole ([`mod@lockstep`]), with the allocations of that. [`recorded`] compares all of it with a file.

mod callgrind;
pub mod lockstep;
mod recorded;
pub mod steps;

use anyhow::{Context as _, ensure};
use callgrind::{Callgrind, Profile};
use recorded::{Figure, Kind, Recorded, Tools, Verdict};
use std::path::PathBuf;
use std::process::ExitCode;
use tickgate_benches::steps::{BOOK, QUOTE, TRADE, wire_bytes};
use tickgate_protocol::Channel;

/// Clients of the whole deliveries, as in the workloads of the same names.
const CLIENTS: usize = 200;
/// Name, ticks that come together, and for how many passes they are counted: enough for what varies between two runs,
/// which is how connections came about and how often the shard fell asleep, to be less than 1 % of them.
const DELIVERIES: [(&str, usize, usize); 2] = [("W1a delivery", 1, 400), ("W1k delivery", 10, 400)];
/// Passes before those that count.
const WARM_UP_PASSES: usize = 20;
/// What the shard does by the clock, four times a second: under callgrind a second holds few deliveries, so it would
/// weigh some twenty times what it does, the more the slower the machine is.
const BY_THE_CLOCK: &str = "::on_time";

/// Counts instructions, bytes and allocations of the hot path, and fails when any grew.
///
/// Instructions in user space are counted under valgrind's callgrind: for an item of each step of the hot path, and on the
/// shard's thread for a whole delivery to one of 200 clients, when one tick comes at a time (W1a) and ten together (W1k).
/// They may grow by 3 %. Bytes on the wire, of one event with its frame, and allocations in a pass of the shard may not
/// grow at all.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Record what is counted, in the place of comparing with what was recorded
    #[arg(long)]
    bless: bool,
    /// What was recorded
    #[arg(long, default_value = "benches/instructions.toml")]
    file: PathBuf,
}

/// Counts, and then records or compares: a failure when something grew.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let tools = Tools::here()?;
    ensure!(tools.profile != "debug", "build with --release: what is not optimised is not worth counting");
    let recorded = if args.bless { None } else { Some(Recorded::read(&args.file)?) };
    if let Some(recorded) = &recorded
        && (recorded.with.architecture != tools.architecture || !has_vectors())
    {
        println!(
            "not compared: the figures are of {} with AVX2, and this machine is another",
            recorded.with.architecture
        );
        return Ok(ExitCode::SUCCESS);
    }
    let figures = count()?;
    let Some(recorded) = recorded else {
        for figure in &figures {
            println!("{:<32} {:>10}", figure.what(), shown(figure.value));
        }
        std::fs::write(&args.file, Recorded::text(&tools, &figures))
            .with_context(|| format!("writing {}", args.file.display()))?;
        println!("recorded in {}", args.file.display());
        return Ok(ExitCode::SUCCESS);
    };
    Ok(report(&recorded, &figures, &tools))
}

/// Whether the decoder takes the way that was counted: it chooses by what the processor can do.
fn has_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx2")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

/// Prints every figure beside its limit, and what has to be said about those that changed.
fn report(recorded: &Recorded, figures: &[Figure], tools: &Tools) -> ExitCode {
    let (mut bad, mut shrank) = (Vec::new(), Vec::new());
    println!("{:<32} {:>10} {:>10} {:>10} {:>8}", "", "counted", "recorded", "limit", "change");
    for figure in figures {
        let (before, verdict) = recorded.compare(figure);
        let (counted, what) = (shown(figure.value), figure.what());
        let Some(before) = before else {
            println!("{what:<32} {counted:>10} {:>10}", "-");
            bad.push(format!("{what}: {counted}, which is not recorded yet"));
            continue;
        };
        let change = if before > 0.0 { (figure.value / before - 1.0) * 100.0 } else { 0.0 };
        let limit = shown(figure.limit(before));
        let mark = if verdict == Verdict::Grew { " <" } else { "" };
        println!("{what:<32} {counted:>10} {:>10} {limit:>10} {change:>+6.1} %{mark}", shown(before));
        match verdict {
            Verdict::Grew => {
                bad.push(format!("{what} grew from {} to {counted} (limit {limit})", shown(before)));
            }
            Verdict::Shrank => shrank.push(format!("{what} from {} to {counted}", shown(before))),
            Verdict::Same | Verdict::New => {}
        }
    }
    bad.extend(
        recorded.missing(figures).into_iter().map(|what| format!("{what} is recorded and not counted")),
    );
    let differences = tools.differences(&recorded.with);
    if !differences.is_empty() {
        println!("\nOther tools count otherwise: {}", differences.join("; "));
    }
    if !shrank.is_empty() {
        println!("\nLess than was recorded: {}", shrank.join("; "));
        println!("Keep it so: `cargo xtask bench instructions --bless` records it");
    }
    if bad.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("\nNot as recorded:\n  {}", bad.join("\n  "));
    eprintln!("If that is what it has to cost, `cargo xtask bench instructions --bless` records it");
    ExitCode::FAILURE
}

fn shown(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn count() -> anyhow::Result<Vec<Figure>> {
    let callgrind = Callgrind::new()?;
    let mut figures = count_steps(&callgrind)?;
    for (name, ticks, passes) in DELIVERIES {
        figures.extend(count_delivery(&callgrind, name, ticks, passes)?);
    }
    for (name, record, channel) in
        [("trade", TRADE, Channel::Trades), ("quote", QUOTE, Channel::Quotes), ("book", BOOK, Channel::Book)]
    {
        figures.push(figure(Kind::Bytes, name, wire_bytes(record, channel) as f64));
    }
    Ok(figures)
}

fn count_steps(callgrind: &Callgrind) -> anyhow::Result<Vec<Figure>> {
    let options =
        [&format!("--toggle-collect=*{}*", steps::COUNTED), &format!("--dump-after=*{}*", steps::NOTED)];
    let run = callgrind.run("steps", &options.map(String::as_str), &["steps"])?;
    let mut figures = Vec::new();
    for (number, line) in run.printed.lines().enumerate() {
        let (items, name) = line.split_once(' ').context("a line without a name")?;
        let instructions = run.part(number + 1)?.instructions as f64 / items.parse::<f64>()?;
        ensure!(instructions > 0.0, "callgrind has not counted {name:?}");
        figures.push(figure(Kind::Instructions, name, instructions));
    }
    ensure!(!figures.is_empty(), "no step was counted");
    Ok(figures)
}

/// The difference between many passes and few: what happens once is in both.
fn count_delivery(
    callgrind: &Callgrind,
    name: &str,
    ticks: usize,
    passes: usize,
) -> anyhow::Result<[Figure; 3]> {
    let few = lockstep(callgrind, name, ticks, WARM_UP_PASSES)?;
    let many = lockstep(callgrind, name, ticks, WARM_UP_PASSES + passes)?;
    let deliveries = (CLIENTS * ticks * passes) as f64;
    let instructions = many.instructions.saturating_sub(few.instructions) as f64 / deliveries;
    let allocations = many.allocations.saturating_sub(few.allocations) as f64 / passes as f64;
    let bytes = many.bytes as f64 / ticks as f64;
    Ok([
        figure(Kind::Instructions, name, instructions),
        figure(Kind::Bytes, name, bytes),
        // A few come from how connections came about; one that goes with passes would be one in each.
        figure(Kind::Allocations, name, (allocations * 10.0).round() / 10.0),
    ])
}

/// What the shard's thread did in a whole run.
struct Counts {
    instructions: u64,
    allocations: u64,
    /// That a client got in the last pass.
    bytes: u64,
}

fn lockstep(callgrind: &Callgrind, name: &str, ticks: usize, passes: usize) -> anyhow::Result<Counts> {
    let [clients, ticks, passes] = [CLIENTS, ticks, passes].map(|number| number.to_string());
    let words = ["lockstep", "--clients", &clients, "--ticks", &ticks, "--passes", &passes];
    let run = callgrind.run(&format!("{name}-{passes}"), &["--separate-threads=yes"], &words)?;
    let profile: Profile = run.thread(lockstep::SHARD_THREAD)?;
    let by_the_clock = profile.within(BY_THE_CLOCK).with_context(|| {
        format!("callgrind sees no function of the shard that ends in {BY_THE_CLOCK:?}: was it renamed?")
    })?;
    // Connections are not made without any: it would be the counting that has none.
    ensure!(profile.allocations() > 0, "callgrind sees no allocations of memory: how are they named?");
    Ok(Counts {
        instructions: profile.instructions.saturating_sub(by_the_clock),
        allocations: profile.allocations(),
        bytes: run.printed.trim().parse()?,
    })
}

fn figure(kind: Kind, name: &str, value: f64) -> Figure {
    // Recorded with two digits behind the point.
    Figure { kind, name: name.to_owned(), value: (value * 100.0).round() / 100.0 }
}
