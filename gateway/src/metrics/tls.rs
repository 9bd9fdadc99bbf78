//! What is measured of TLS.

use super::Scrape;
use crate::stats::{Board, TlsFailure, TlsReload};
use std::sync::atomic::Ordering;

/// Kinds of handshakes, as they are counted.
const KINDS: [&str; 2] = ["whole", "resumed"];

/// Handshakes of one shard.
pub(super) fn of_shard(scrape: &Scrape, handshakes: [u64; 2], failures: [u64; TlsFailure::COUNT]) {
    for (kind, count) in KINDS.into_iter().zip(handshakes) {
        scrape.counter("tickgate_tls_handshakes_total", &[("kind", kind)], count);
    }
    for (reason, count) in TlsFailure::ALL.iter().zip(failures) {
        scrape.counter("tickgate_tls_handshakes_failed_total", &[("reason", reason.label())], count);
    }
}

/// The certificate.
pub(super) fn certificate(scrape: &Scrape, board: &Board) {
    for reload in TlsReload::ALL {
        let count = board.tls_reloads[*reload as usize].load(Ordering::Relaxed);
        scrape.counter("tickgate_tls_certificate_reloads_total", &[("result", reload.label())], count);
    }
    let until_s = board.certificate_until_s.load(Ordering::Relaxed);
    if until_s != 0 {
        scrape.gauge("tickgate_tls_certificate_expires_timestamp_seconds", &[], until_s as f64);
    }
}
