//! What the subcommands do: from flags to the library and back to text and exit codes.

use crate::EXIT_USAGE;
use crate::args::{Kafka, Reading, Replay, Run, Stats};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tickgate_exporter::{Listener, Serving};
use tickgate_sim::TimedTick;
use tickgate_sim::calibration::{Calibration, is_close, measure};
use tickgate_sim::metrics::Metrics;
use tickgate_sim::model::{Model, ModelConfig, Preset};
use tickgate_sim::pacing::Speed;
use tickgate_sim::producer::{EventClock, ProduceError, ProducerConfig, Progress, produce};
use tickgate_sim::replay::{self, Options, ReplayError};
use tickgate_sim::stats::{PeakCounter, Peaks};
use tickgate_sim::text::{grouped, millis, rate};

/// A line for standard output. That nobody reads it any more is no error.
macro_rules! say {
    ($($text:tt)*) => {
        let _ = writeln!(io::stdout(), $($text)*);
    };
}

const EXIT_FAILED: u8 = 1;
const EXIT_UNAVAILABLE: u8 = 69;
const EXIT_OUTPUT: u8 = 74;
/// How often it is looked at how a run goes.
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// How long a broker may take to answer before that is told.
const QUIET: Duration = Duration::from_secs(1);

/// Why a command ends early.
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    fn new(code: u8, message: impl ToString) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<ProduceError> for Failure {
    fn from(error: ProduceError) -> Self {
        match error {
            ProduceError::Source(error) => error.into(),
            ProduceError::Config(_) => Self::new(EXIT_USAGE, error),
            _ => Self::new(EXIT_UNAVAILABLE, error),
        }
    }
}

pub(crate) fn run(args: &Run) -> Result<u8, Failure> {
    let config = ModelConfig { symbols: args.symbols, rate_per_s: args.rate, seed: args.seed };
    let model = Model::new(args.model, config).map_err(|error| Failure::new(EXIT_USAGE, error))?;
    if let (Some(path), Some(duration)) = (&args.output, args.kafka.duration) {
        return write(model, path, duration).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(0, "the reader has gone"),
            _ => Failure::new(EXIT_OUTPUT, format!("{}: {error}", path.display())),
        });
    }
    let mut producer = producer(&args.kafka, Speed::Times(1.0));
    producer.event_clock = EventClock::Live;
    send(model.map(Ok), &producer, &args.kafka, Some(args.rate))
}

pub(crate) fn replay(args: &Replay) -> Result<u8, Failure> {
    let mut source = replay::open_with(&args.files, args.reading.format, &options(&args.reading))?;
    let sent = send(&mut source, &producer(&args.kafka, args.speed), &args.kafka, None);
    print_skipped(&source);
    sent
}

pub(crate) fn stats(args: &Stats) -> Result<u8, Failure> {
    let presets = if args.all { Preset::ALL.to_vec() } else { args.model.into_iter().collect() };
    let mut code = 0;
    for preset in presets {
        code = code.max(model_stats(args, preset)?);
    }
    for file in &args.files {
        file_stats(&file.display().to_string(), std::slice::from_ref(file), &args.reading)?;
    }
    if args.files.len() > 1 {
        file_stats(&format!("all {} files, merged by time", args.files.len()), &args.files, &args.reading)?;
    }
    Ok(code)
}

fn options(reading: &Reading) -> Options {
    Options {
        symbol: reading.symbol.clone(),
        utc_offset_s: reading.utc_offset.map(|hours| hours * 3_600),
        between: reading.between,
    }
}

fn producer(kafka: &Kafka, speed: Speed) -> ProducerConfig {
    ProducerConfig {
        partitions: kafka.partitions,
        replication: kafka.replication,
        speed,
        duration: kafka.duration,
        linger_ms: kafka.linger_ms,
        acks: kafka.acks.clone(),
        bad_every: kafka.bad_every,
        connect_timeout: kafka.connect_timeout,
        properties: kafka.properties.clone(),
        ..ProducerConfig::new(&kafka.brokers, &kafka.topic)
    }
}

fn send(
    source: impl Iterator<Item = Result<TimedTick, ReplayError>>,
    config: &ProducerConfig,
    kafka: &Kafka,
    wanted_per_s: Option<f64>,
) -> Result<u8, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second signal ends the process at once; the first sets the flag.
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_FAILED.into(), Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::new(EXIT_UNAVAILABLE, format!("signals: {error}")))?;
    }
    let progress = Arc::new(Progress::default());
    let metrics = Metrics::new(Arc::clone(&progress), config.speed, wanted_per_s);
    let serving = kafka.metrics.map(|address| serve(address, metrics)).transpose();
    let _serving = serving.map_err(|error| Failure::new(EXIT_UNAVAILABLE, error))?;
    let ended = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| show(config, &progress, &stop, &ended));
        let report = produce(source, config, &progress, &stop);
        ended.store(true, Ordering::Relaxed);
        report
    })?;
    say!("{report}");
    if let Some(path) = &kafka.report {
        let failed = |error: io::Error| Failure::new(EXIT_OUTPUT, format!("{}: {error}", path.display()));
        let file = File::create(path).map_err(failed)?;
        serde_json::to_writer_pretty(file, &report).map_err(|error| failed(error.into()))?;
    }
    // Whoever ends a run early has nothing to complain about its rate.
    Ok(if report.stopped && report.delivery_errors == 0 { 0 } else { report.exit_code() })
}

/// Says how the run goes, and where it says so.
fn serve(address: SocketAddr, mut metrics: Metrics) -> io::Result<Serving> {
    let listener = Listener::bind(address)?;
    let address = listener.local_addr();
    let serving = listener.serve(move || metrics.render(Instant::now()))?;
    eprintln!("tickgate-sim: metrics at http://{address}/metrics");
    Ok(serving)
}

/// What is waited for, and on a terminal a line of progress once a second, until the run has ended.
fn show(config: &ProducerConfig, progress: &Progress, stop: &AtomicBool, ended: &AtomicBool) {
    let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
        bar.set_style(style);
    }
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (mut second, mut before) = (Instant::now(), 0);
    let (mut told_connecting, mut told_stopping) = (false, false);
    while !ended.load(Ordering::Relaxed) {
        std::thread::sleep(SHOW_EVERY);
        bar.tick();
        let is_connected = progress.connected.load(Ordering::Relaxed);
        if !told_connecting && !is_connected && bar.elapsed() >= QUIET {
            told_connecting = true;
            let most = humantime::format_duration(config.connect_timeout);
            let text = format!("tickgate-sim: waiting up to {most} for a broker at {}", config.brokers);
            bar.suspend(|| eprintln!("{text}"));
        }
        let sent = get(&progress.sent);
        let waiting = sent.saturating_sub(get(&progress.delivered) + get(&progress.errors));
        if !told_stopping && stop.load(Ordering::Relaxed) && is_connected && waiting > 0 {
            told_stopping = true;
            let (waiting, most) = (grouped(waiting), humantime::format_duration(config.stop_timeout));
            bar.suspend(|| {
                eprintln!(
                    "tickgate-sim: waiting up to {most} for {waiting} records to be delivered, \
                     Ctrl-C again to give up"
                );
            });
        }
        let elapsed = second.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let per_s = (sent - before) as f64 / elapsed.as_secs_f64();
            bar.set_message(format!(
                "{} sent, {}/s, {} delivered, {} errors, worst lateness {}",
                grouped(sent),
                rate(per_s),
                grouped(get(&progress.delivered)),
                grouped(get(&progress.errors)),
                millis(get(&progress.late_max_ns)),
            ));
            (second, before) = (Instant::now(), sent);
        }
    }
    bar.finish_and_clear();
}

fn write(model: Model, path: &Path, duration: Duration) -> io::Result<u8> {
    let out: Box<dyn Write> =
        if path == Path::new("-") { Box::new(io::stdout().lock()) } else { Box::new(File::create(path)?) };
    let mut out = BufWriter::with_capacity(256 << 10, out);
    let end_ns = duration.as_nanos() as u64;
    let mut line = Vec::with_capacity(1024);
    for timed in model.take_while(|timed| timed.offset_ns < end_ns) {
        line.clear();
        timed.tick.write_json(&mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()?;
    Ok(0)
}

fn print_skipped(source: &replay::Replay) {
    for (path, skipped) in source.skipped() {
        for (kind, count) in skipped.counts() {
            say!("skipped    {} × {kind} in {}", grouped(count), path.display());
        }
    }
}

fn model_stats(args: &Stats, preset: Preset) -> Result<u8, Failure> {
    let usual = preset.calibration();
    let conditions = Calibration {
        symbols: args.symbols.unwrap_or(usual.symbols),
        rate_per_s: args.rate.unwrap_or(usual.rate_per_s),
        span_s: args.duration.map_or(usual.span_s, |duration| duration.as_secs_f64()),
        ..usual
    };
    let started = Instant::now();
    let peaks = measure(preset, conditions, args.seed).map_err(|error| Failure::new(EXIT_USAGE, error))?;
    say!(
        "{} (seed {}): {} symbols, {} ticks in {:.0} simulated s, {:.1}/s; took {:.2} s",
        preset.name(),
        args.seed,
        conditions.symbols,
        grouped(peaks.events),
        peaks.span_s,
        peaks.mean_per_s(),
        started.elapsed().as_secs_f64(),
    );
    print_peaks("model", &peaks);
    let Some((name, real)) = usual.real else {
        say!("  nothing real to compare with\n");
        return Ok(0);
    };
    say!("  {:<8}{:>12.1}x{:>12.1}x{:>12.1}x   {name}", "real", real[0], real[1], real[2]);
    if conditions != usual {
        say!("  not compared: these are not the conditions of the recording\n");
        return Ok(0);
    }
    let ratios = peaks.ratios();
    let close: Vec<bool> = ratios.iter().zip(real).map(|(ratio, real)| is_close(*ratio, real)).collect();
    let verdict = |ok: &bool| if *ok { "ok" } else { "FAR" };
    say!(
        "  {:<8}{:>13}{:>13}{:>13}   {}\n",
        "",
        verdict(&close[0]),
        verdict(&close[1]),
        verdict(&close[2]),
        if close.iter().all(|ok| *ok) {
            "PASS: within 2x of the real recording"
        } else {
            "FAIL: not within 2x of the real recording"
        }
    );
    Ok(u8::from(close.contains(&false)))
}

fn file_stats(title: &str, files: &[impl AsRef<Path>], reading: &Reading) -> Result<(), Failure> {
    let mut source = replay::open_with(files, reading.format, &options(reading))?;
    let (mut messages, mut all) = (PeakCounter::default(), PeakCounter::default());
    let mut ticks = Vec::new();
    let mut start_ns = None;
    while let Some(stamp) = source.next_message(&mut ticks)? {
        let offset_ns =
            u64::try_from(stamp.time_ns.saturating_sub(*start_ns.get_or_insert(stamp.time_ns))).unwrap_or(0);
        messages.add(offset_ns, 1);
        if !ticks.is_empty() {
            all.add(offset_ns, ticks.len() as u64);
            ticks.clear();
        }
    }
    let (messages, all) = (messages.peaks(), all.peaks_over(messages.peaks().span_s));
    say!(
        "{title}: {} rows or messages, {} ticks in {:.1} s",
        grouped(messages.events),
        grouped(all.events),
        messages.span_s
    );
    print_peaks("rows", &messages);
    print_peaks("ticks", &all);
    print_skipped(&source);
    say!();
    Ok(())
}

fn print_peaks(name: &str, peaks: &Peaks) {
    let ratios = peaks.ratios();
    if name != "ticks" {
        say!("  {:<8}{:>13}{:>13}{:>13}   mean", "", "1 s", "100 ms", "10 ms");
    }
    say!(
        "  {:<8}{:>13}{:>13}{:>13}   {:.1}/s",
        name,
        grouped(peaks.peaks[0]),
        grouped(peaks.peaks[1]),
        grouped(peaks.peaks[2]),
        peaks.mean_per_s()
    );
    say!("  {:<8}{:>12.1}x{:>12.1}x{:>12.1}x   peak to mean", "", ratios[0], ratios[1], ratios[2]);
}
