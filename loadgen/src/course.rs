//! The phases of a run, and what is measured of it.
//!
//! They are the same for all clients: connect on schedule, warm up, measure, let the stalled read, close.

use crate::clock::now_ns;
use crate::gateway_process::{Spent, Usage};
use crate::latency::Latencies;
use crate::live::{LiveStats, Phase};
use crate::persona::Persona;
use crate::plan::Plan;
use crate::report::Measured;
use crate::tally::Tally;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How often the gateways' memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// What was seen of the measurement from outside.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub(crate) measured: Measured,
    /// One for each gateway.
    pub(crate) gateways: Vec<GatewayWindow>,
    pub(crate) lag: Latencies,
    pub(crate) generator: Spent,
    pub(crate) interrupted: bool,
}

/// What was seen of it at one gateway.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GatewayWindow {
    pub(crate) measured: Measured,
    /// Sessions open at its end.
    pub(crate) open: u64,
    pub(crate) process: Option<Spent>,
}

/// The phases of a run.
pub(crate) struct Course<'a> {
    phase: watch::Sender<Phase>,
    live: &'a LiveStats,
    stop: &'a mut watch::Receiver<bool>,
    /// One for each gateway; `None` is not looked at.
    gateway_pids: Vec<Option<u32>>,
    stopped: bool,
}

impl<'a> Course<'a> {
    pub(crate) fn new(
        phase: watch::Sender<Phase>,
        live: &'a LiveStats,
        stop: &'a mut watch::Receiver<bool>,
        gateway_pids: Vec<Option<u32>>,
    ) -> Self {
        Self { phase, live, stop, gateway_pids, stopped: false }
    }

    /// Goes through all phases, the ramp beginning at `start`.
    pub(crate) async fn run(&mut self, plan: &Plan, start: Instant) -> Window {
        self.until(start + Duration::from_millis(plan.ramp_ms)).await;
        self.enter(Phase::Warmup);
        self.until(start + plan.before_measure()).await;
        let window = if self.stopped {
            Window { gateways: vec![GatewayWindow::default(); self.gateway_pids.len()], ..Window::default() }
        } else {
            self.enter(Phase::Measure);
            self.measure(Duration::from_millis(plan.measure_ms)).await
        };
        // A measurement that lasts until it is stopped has come to its end.
        let interrupted = self.stopped && !(plan.until_stopped && window.measured.seconds > 0.0);
        self.enter(Phase::Drain);
        let has_stalled = plan.personas.shares.iter().any(|(persona, _)| *persona == Persona::Stalled);
        if has_stalled {
            // Also after a stop: what the stalled were sent is part of what was measured.
            self.stopped = false;
            sleep_until(Instant::now() + Duration::from_millis(plan.drain_ms)).await;
        }
        self.enter(Phase::End);
        Window { interrupted, ..window }
    }

    async fn measure(&mut self, duration: Duration) -> Window {
        let (begun, began_ns) = (Instant::now(), now_ns());
        let end = begun + duration;
        let before = self.look();
        self.live.begin_measure();
        let own_before = Usage::of_self();
        let mut rss_max_bytes = vec![0; self.gateway_pids.len()];
        while Instant::now() < end && !self.stopped {
            self.until(end.min(Instant::now() + SAMPLE_EVERY)).await;
            for (max, pid) in rss_max_bytes.iter_mut().zip(&self.gateway_pids) {
                *max = pid.and_then(Usage::of).map_or(0, |usage| usage.rss_bytes).max(*max);
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.live.end_measure();
        let own_after = Usage::of_self();
        let after = self.look();
        let mut window = Window {
            lag: self.live.totals().lag,
            generator: Spent::between(
                std::process::id(),
                &own_before,
                &own_after,
                own_after.rss_peak_bytes,
                seconds,
            ),
            ..Window::default()
        };
        for (gateway, (before, after)) in before.into_iter().zip(after).enumerate() {
            let measured = Measured::between(&before.tally, &after.tally, began_ns, seconds);
            let process = match (self.gateway_pids[gateway], before.usage, after.usage) {
                (Some(pid), Some(before), Some(after)) => {
                    Some(Spent::between(pid, &before, &after, rss_max_bytes[gateway], seconds))
                }
                _ => None,
            };
            window.measured.add(&measured);
            window.gateways.push(GatewayWindow { measured, open: after.open, process });
        }
        window
    }

    /// How things stand at each gateway.
    fn look(&self) -> Vec<Look> {
        let pids = self.gateway_pids.iter().enumerate();
        pids.map(|(gateway, pid)| {
            let totals = self.live.totals_at(gateway);
            Look { tally: totals.all_tallies(), open: totals.sessions.open, usage: pid.and_then(Usage::of) }
        })
        .collect()
    }

    fn enter(&self, phase: Phase) {
        self.live.set_phase(phase);
        self.phase.send_replace(phase);
    }

    /// Waits until `due` or until somebody stops the run.
    async fn until(&mut self, due: Instant) {
        if self.stopped {
            return;
        }
        tokio::select! {
            () = sleep_until(due) => {}
            stopped = self.stop.wait_for(|stop| *stop) => match stopped {
                Ok(_) => self.stopped = true,
                // Nobody can stop it any more.
                Err(_) => sleep_until(due).await,
            },
        }
    }
}

/// How things stand at one gateway.
struct Look {
    tally: Tally,
    open: u64,
    usage: Option<Usage>,
}
