//! What a scrape costs, of a gateway that has much to show.
//!
//! A scrape reads copies that shards and feeds have left, none of them by session: so as many sessions as are asked for are put
//! into those, and no socket is opened.

use anyhow::ensure;
use std::time::Instant;
use tickgate_gateway::config::delays::Tier;
use tickgate_gateway::config::{Config, FeedConfig};
use tickgate_gateway::latency::{Recorder, Stage};
use tickgate_gateway::metrics::Metrics;
use tickgate_gateway::stats::{Board, PartitionTotals};
use tickgate_protocol::control::{FeedState, FeedStatus};

/// Latencies of each stage and thread: enough for every cell of the histograms.
const LATENCIES: u64 = 100_000;
const SCRAPE_EVERY_NS: u64 = 1_000_000_000;
/// What Prometheus may be kept waiting, and given.
const MS_MAX: f64 = 50.0;
const BYTES_MAX: usize = 1 << 20;

/// Renders `/metrics` again and again: the median of its time, and its size.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Open sessions, each with something in its queue
    #[arg(long, default_value_t = 100_000)]
    sessions: u64,
    /// Threads that own them
    #[arg(long, default_value_t = 8)]
    shards: usize,
    /// Topics
    #[arg(long, default_value_t = 4)]
    feeds: usize,
    /// Partitions of each
    #[arg(long, default_value_t = 32)]
    partitions: u32,
    /// Delays beside the live tier
    #[arg(long, default_value_t = 1)]
    delays: u32,
    /// Scrapes
    #[arg(long, default_value_t = 20)]
    scrapes: usize,
}

/// # Errors
/// When a scrape takes longer, or is larger, than it may.
pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.shards > 0 && args.scrapes > 0, "there is nothing to scrape");
    let config = Config {
        feeds: (0..args.feeds).map(|feed| FeedConfig::for_topic(&name(feed))).collect(),
        ..Config::default()
    };
    let board = board(args);
    let mut metrics = Metrics::new(&config, 0);
    let mut took_ms = Vec::with_capacity(args.scrapes);
    let mut bytes = 0;
    for scrape in 1..=args.scrapes as u64 {
        let started = Instant::now();
        let text = metrics.render(&board, scrape * SCRAPE_EVERY_NS);
        took_ms.push(started.elapsed().as_secs_f64() * 1e3);
        bytes = text.len();
    }
    took_ms.sort_by(f64::total_cmp);
    let median_ms = took_ms[took_ms.len() / 2];
    let longest_ms = took_ms[took_ms.len() - 1];
    let Args { sessions, shards, feeds, partitions, delays, scrapes } = args;
    println!(
        "{sessions} sessions, {shards} shards, {feeds} feeds of {partitions} partitions, {delays} delays: \
         {median_ms:.2} ms (median of {scrapes}, longest {longest_ms:.2} ms), {bytes} bytes"
    );
    ensure!(median_ms < MS_MAX, "a scrape takes over {MS_MAX} ms");
    ensure!(bytes < BYTES_MAX, "a scrape has over {BYTES_MAX} bytes");
    Ok(())
}

fn name(feed: usize) -> String {
    format!("market-data-{feed}")
}

fn board(args: &Args) -> Board {
    let tiers =
        (0..=args.delays).map(|number| Tier { number: number as usize, delay_s: u64::from(number) * 900 });
    let board = Board::with_tiers(args.shards, tiers.collect());
    for shard in 0..args.shards {
        let mut totals = board.shard(shard);
        totals.sessions = args.sessions / args.shards as u64;
        totals.sessions_deflated = totals.sessions / 2;
        for session in 1..=totals.sessions {
            totals.queue_bytes.add(session * 1_000);
            totals.queue_age_us.add(session * 100);
        }
        drop(totals);
        latencies(&board, shard);
    }
    latencies(&board, args.shards);
    for tier in 0..board.tiers().len() {
        let status = |feed| FeedStatus {
            name: name(feed),
            state: FeedState::Live,
            event_ns: Some(1_790_000_000_000_000_000),
            lag_records: 1_000_000,
        };
        let mut feed = board.feed_of(tier);
        feed.feeds = (0..args.feeds).map(status).collect();
        feed.peaks = vec![[1_000_000, 500_000]; args.feeds];
    }
    let of_partition = |feed: usize, partition| PartitionTotals {
        feed: name(feed),
        partition,
        next_offset: 1_000_000_000,
        high_watermark: 1_000_001_000,
        caught_up: true,
        record_ms: 1_790_000_000_000,
    };
    let partitions = (0..args.feeds).flat_map(|feed| (0..args.partitions).map(move |number| (feed, number)));
    board.feed().partitions = partitions.map(|(feed, number)| of_partition(feed, number)).collect();
    board
}

/// Latencies of every size.
fn latencies(board: &Board, thread: usize) {
    let mut recorder = Recorder::new();
    for stage in Stage::ALL {
        (0..LATENCIES).for_each(|n| recorder.record(stage, (n * n) as i64));
    }
    recorder.publish(board, thread);
}
