//! Compressing the frames that many sessions get: one for all of a shard.

use tickgate_protocol::deflate::Deflater;
use tickgate_protocol::frame::{self, Opcode};

/// What compression was good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeflateTotals {
    /// Frames compressed, once each however many sessions got them.
    pub frames: u64,
    /// Frames that were tried, and went out as they were because they would not have been smaller.
    pub frames_given_up: u64,
    /// Bytes of the payloads of those compressed, before.
    pub plain_bytes: u64,
    /// The same, after.
    pub deflated_bytes: u64,
}

/// Compresses frames of shared events.
#[derive(Debug)]
pub(super) struct Deflate {
    pub(super) deflater: Deflater,
    bytes_min: usize,
    pub(super) totals: DeflateTotals,
}

impl Deflate {
    /// Payloads of fewer than `bytes_min` bytes are left alone.
    pub(super) fn new(deflater: Deflater, bytes_min: usize) -> Self {
        Self { deflater, bytes_min, totals: DeflateTotals::default() }
    }

    /// Puts a compressed frame in the place of the text frame whose payload begins at `start`, if that makes it smaller.
    pub(super) fn compress(&mut self, bytes: &mut Vec<u8>, start: usize) {
        let payload = &bytes[start..];
        if payload.len() < self.bytes_min {
            return;
        }
        let plain_bytes = payload.len() as u64;
        let Some(deflated) = self.deflater.deflate(payload) else {
            self.totals.frames_given_up += 1;
            return;
        };
        self.totals.frames += 1;
        self.totals.plain_bytes += plain_bytes;
        self.totals.deflated_bytes += deflated.len() as u64;
        bytes.clear();
        frame::write_deflated_header(bytes, Opcode::Text, deflated.len());
        bytes.extend_from_slice(deflated);
    }
}
