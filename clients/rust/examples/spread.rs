//! Statistics of the spread: how far apart bid and ask were, by symbol, in basis points of the mid.

mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;
use tickgate_client::event::{Quote, Symbol};
use tickgate_client::{Event, Subscription};

/// Of one symbol, each spread weighted by how long it stood.
#[derive(Default)]
struct Spread {
    quotes: u64,
    /// Basis points times nanoseconds, and the nanoseconds.
    sum: f64,
    stood_ns: f64,
    widest_bps: Option<f64>,
    crossed: u64,
    /// The last one, and when it came about by the venue's clock; `None` where something is missing behind it.
    last: Option<(f64, i64)>,
}

impl Spread {
    fn add(&mut self, quote: &Quote) {
        self.quotes += 1;
        self.crossed += u64::from(quote.bid_price >= quote.ask_price);
        let (bps, now_ns) = (quote.spread() / quote.mid() * 10_000.0, quote.meta.event_ns);
        if let Some((last_bps, since_ns)) = self.last
            && now_ns > since_ns
        {
            let stood_ns = (now_ns - since_ns) as f64;
            self.sum += last_bps * stood_ns;
            self.stood_ns += stood_ns;
        }
        if bps.is_finite() {
            self.widest_bps = Some(self.widest_bps.map_or(bps, |widest| widest.max(bps)));
        }
        self.last = bps.is_finite().then_some((bps, now_ns));
    }

    /// Of one quote, of which nobody knows how long it stood, there is none.
    fn mean_bps(&self) -> Option<f64> {
        (self.stood_ns > 0.0).then(|| self.sum / self.stood_ns)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, common::Failure> {
    let args: common::TableArgs =
        common::args("Statistics of the spread: how far apart bid and ask were, by symbol");
    let mut listening = args.common.listen("quotes", vec![Subscription::quotes(&args.common.symbols)])?;
    let mut spreads: BTreeMap<Symbol, Spread> = BTreeMap::new();
    while let Some(event) = listening.next().await {
        match event {
            Event::Quote(quote)
                if spreads.len() < common::SYMBOLS_MAX || spreads.contains_key(&quote.symbol) =>
            {
                spreads.entry(quote.symbol.clone()).or_default().add(&quote);
            }
            // Nobody knows how long the last one stood.
            Event::Gap(gap) => {
                let is_meant = |(symbol, _): &(&Symbol, &mut Spread)| common::is_of(&gap.symbol, symbol);
                spreads.iter_mut().filter(is_meant).for_each(|(_, spread)| spread.last = None);
            }
            _ => {}
        }
    }
    if !spreads.is_empty() {
        println!("{:<12} {:>8} {:>10} {:>10} {:>8}", "symbol", "quotes", "mean bps", "widest bps", "crossed");
        args.show(
            &spreads,
            |s| s.quotes,
            |symbol, s| {
                let shown = |bps: Option<f64>| bps.map_or("-".to_owned(), |bps| format!("{bps:.2}"));
                let (mean, widest) = (shown(s.mean_bps()), shown(s.widest_bps));
                println!("{symbol:<12} {:>8} {mean:>10} {widest:>10} {:>8}", s.quotes, s.crossed);
            },
        );
    }
    Ok(listening.exit())
}
