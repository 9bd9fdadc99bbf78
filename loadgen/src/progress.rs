//! How a run is going: a bar on a terminal, otherwise a plain line every few seconds, on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};
use tickgate_load::latency::human;
use tickgate_load::live::{LiveView, Phase};
use tickgate_load::plan::Plan;
use tickgate_load::report::rate;

/// Shows the progress of a run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    last: Cell<(Instant, u64)>,
}

impl Progress {
    pub(crate) fn new(plan: &Plan) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(plan.ramp_ms + plan.warmup_ms + plan.measure_ms);
            let style = ProgressStyle::with_template("{elapsed:>4} [{bar:24}] {msg}");
            bar.with_style(style.expect("the template is sound").progress_chars("=> "))
        });
        let now = Instant::now();
        Self { bar, started: now, last: Cell::new((now, 0)) }
    }

    /// How often to show.
    pub(crate) fn interval(&self) -> Duration {
        if self.bar.is_some() { Duration::from_millis(500) } else { Duration::from_secs(5) }
    }

    pub(crate) fn show(&self, view: &LiveView) {
        let now = Instant::now();
        let (then, events) = self.last.replace((now, view.tally.events));
        let seconds = now.duration_since(then).as_secs_f64().max(1e-3);
        let text = line(view, view.tally.events.saturating_sub(events) as f64 / seconds);
        match &self.bar {
            Some(bar) => {
                let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                bar.set_position(elapsed_ms.min(bar.length().unwrap_or(0)));
                bar.set_message(text);
            }
            None => eprintln!("{:>5.0}s {text}", self.started.elapsed().as_secs_f64()),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(view: &LiveView, events_per_s: f64) -> String {
    let sessions = &view.sessions;
    let mut text = format!(
        "{}: {}/{} sessions, {} events/s",
        view.phase.name(),
        sessions.open,
        sessions.planned,
        rate(events_per_s)
    );
    if view.phase >= Phase::Measure && view.latency.count > 0 {
        text += &format!(", p50 {} p99 {}", human(view.latency.p50_ns), human(view.latency.p99_ns));
    }
    let tally = &view.tally;
    for (count, what) in [
        (sessions.failed, "failed"),
        (sessions.closed_early, "closed early"),
        (sessions.cut_off, "cut off"),
        (sessions.lost, "connections lost"),
        (sessions.resumed, "connections back"),
        (tally.gap_events, "in gaps"),
        (tally.conflated, "conflated"),
        (tally.duplicates, "duplicate"),
        (tally.unannounced, "LOST"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}
