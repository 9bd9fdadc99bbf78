//! The limit of the transport: bytes into a TCP connection over loopback that the other end throws away.

use super::server::{LOAD_CPU, SERVER_CPU};
use crate::process;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// Bytes of a write: one tick, ten, a hundred.
const SIZES: [usize; 3] = [154, 1_540, 15_400];
const WRITES: usize = 100_000;

/// What writes of one size cost.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    pub write_bytes: usize,
    /// Time of the writing thread for each write.
    pub cpu_us: f64,
    pub writes_per_s: f64,
    pub bytes_per_s: f64,
}

/// Measures every size.
pub fn limits() -> anyhow::Result<Vec<Limit>> {
    SIZES.into_iter().map(limit).collect()
}

fn limit(write_bytes: usize) -> anyhow::Result<Limit> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut reader = TcpStream::connect(listener.local_addr()?)?;
    let (mut writer, _) = listener.accept()?;
    writer.set_nodelay(true)?;
    let reading = std::thread::spawn(move || -> std::io::Result<()> {
        process::pin(Some(LOAD_CPU))?;
        let mut buffer = vec![0; 256 << 10];
        while reader.read(&mut buffer)? > 0 {}
        Ok(())
    });
    let writing = std::thread::spawn(move || -> std::io::Result<Limit> {
        process::pin(Some(SERVER_CPU))?;
        let bytes = vec![0; write_bytes];
        let (started, cpu_before_us) = (Instant::now(), thread_us());
        for _ in 0..WRITES {
            writer.write_all(&bytes)?;
        }
        let (cpu_us, elapsed_s) = (thread_us() - cpu_before_us, started.elapsed().as_secs_f64());
        Ok(Limit {
            write_bytes,
            cpu_us: cpu_us / WRITES as f64,
            writes_per_s: WRITES as f64 / elapsed_s,
            bytes_per_s: (WRITES * write_bytes) as f64 / elapsed_s,
        })
    });
    let panicked = |_| anyhow::anyhow!("a thread panicked");
    let limit = writing.join().map_err(panicked)??;
    reading.join().map_err(panicked)??;
    Ok(limit)
}

fn thread_us() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
