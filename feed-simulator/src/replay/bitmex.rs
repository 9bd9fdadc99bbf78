//! BitMEX messages: books by level id, quotes and trades.
//!
//! `orderBookL2` names levels by an id whose price is told once, in the `partial` (everything) or an `insert`; updates and deletes carry
//! the id alone. Book records of ours name levels by price, so the ids are kept here.

use super::Skipped;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use tickgate_protocol::Decimal;
use tickgate_protocol::record::{Body, Book, Level, Quote, Side, Tick, Trade};

/// Levels of one symbol; the deepest real book seen has 9,352.
const LEVELS_MAX: usize = 1_000_000;
const SYMBOLS_MAX: usize = 10_000;

/// Turns messages into ticks.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    books: FxHashMap<String, FxHashMap<u64, (Side, Decimal)>>,
    pub(crate) skipped: Skipped,
}

#[derive(Deserialize)]
struct Message<'a> {
    table: Option<&'a str>,
    action: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct LevelRow<'a> {
    symbol: &'a str,
    id: u64,
    side: BookSide,
    #[serde(borrow)]
    size: Option<&'a RawValue>,
    #[serde(borrow)]
    price: Option<&'a RawValue>,
}

/// The venue calls both the side of a level and of an aggressor Buy or Sell.
#[derive(Deserialize, Clone, Copy)]
enum BookSide {
    Buy,
    Sell,
}

impl From<BookSide> for Side {
    fn from(side: BookSide) -> Self {
        match side {
            BookSide::Buy => Self::Buy,
            BookSide::Sell => Self::Sell,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QuoteRow<'a> {
    timestamp: &'a str,
    symbol: &'a str,
    #[serde(borrow)]
    bid_price: &'a RawValue,
    #[serde(borrow)]
    bid_size: &'a RawValue,
    #[serde(borrow)]
    ask_price: &'a RawValue,
    #[serde(borrow)]
    ask_size: &'a RawValue,
}

#[derive(Deserialize)]
struct TradeRow<'a> {
    timestamp: &'a str,
    symbol: &'a str,
    side: BookSide,
    #[serde(borrow)]
    size: &'a RawValue,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(rename = "trdMatchID")]
    id: Option<&'a str>,
}

impl Decoder {
    /// Appends the ticks of one message, captured at `time_ns`; the error says what was expected.
    pub(crate) fn decode(
        &mut self,
        json: &str,
        time_ns: i64,
        ticks: &mut Vec<Tick<'static>>,
    ) -> Result<(), String> {
        let message: Message<'_> = parse(json, "a message of BitMEX")?;
        let (Some(table), Some(action), Some(data)) = (message.table, message.action, message.data) else {
            return self.skipped.skip("welcome or acknowledgement");
        };
        match (table, action) {
            ("orderBookL2" | "orderBookL2_25", _) => self.levels(action, data.get(), time_ns, ticks),
            ("quote", _) => {
                for row in parse::<Vec<QuoteRow<'_>>>(data.get(), "rows of quotes")? {
                    let body = Body::Quote(Quote {
                        bid_price: decimal(row.bid_price)?,
                        bid_size: decimal(row.bid_size)?,
                        ask_price: decimal(row.ask_price)?,
                        ask_size: decimal(row.ask_size)?,
                        venue: None,
                    });
                    ticks.push(tick(row.symbol, timestamp_ns(row.timestamp)?, body)?);
                }
                Ok(())
            }
            // The partial repeats the last trade before the capture.
            ("trade", "partial") => self.skipped.skip("trade before the capture"),
            ("trade", _) => {
                for row in parse::<Vec<TradeRow<'_>>>(data.get(), "rows of trades")? {
                    let body = Body::Trade(Trade {
                        price: decimal(row.price)?,
                        size: decimal(row.size)?,
                        side: Some(row.side.into()),
                        trade_id: row.id.map(|id| Cow::Owned(id.to_owned())),
                        venue: None,
                        conditions: None,
                    });
                    ticks.push(tick(row.symbol, timestamp_ns(row.timestamp)?, body)?);
                }
                Ok(())
            }
            _ => self.skipped.skip("other table"),
        }
    }

    fn levels(
        &mut self,
        action: &str,
        data: &str,
        time_ns: i64,
        ticks: &mut Vec<Tick<'static>>,
    ) -> Result<(), String> {
        let rows: Vec<LevelRow<'_>> = parse(data, "rows of levels")?;
        // A message is about one symbol as a rule; each run of rows of one symbol is one record.
        for run in rows.chunk_by(|a, b| a.symbol == b.symbol) {
            let symbol = run[0].symbol;
            if !self.books.contains_key(symbol) {
                if action != "partial" {
                    run.iter().for_each(|_| self.skipped.add("level before its partial"));
                    continue;
                }
                if self.books.len() >= SYMBOLS_MAX {
                    return Err(format!("at most {SYMBOLS_MAX} symbols in one file"));
                }
                self.books.insert(symbol.to_owned(), FxHashMap::default());
            }
            let levels = self.books.get_mut(symbol).expect("it was just inserted");
            let mut book = Book { snapshot: action == "partial", ..Book::default() };
            if book.snapshot {
                levels.clear();
            }
            for row in run {
                if !change(levels, &mut book, action, row)? {
                    self.skipped.add("level with an unknown id");
                }
            }
            if levels.len() > LEVELS_MAX {
                return Err(format!("at most {LEVELS_MAX} levels of one symbol"));
            }
            if book.snapshot || !book.bids.is_empty() || !book.asks.is_empty() {
                ticks.push(tick(symbol, time_ns, Body::Book(book))?);
            }
        }
        Ok(())
    }
}

/// Applies one row; `false` when its id is unknown.
fn change(
    levels: &mut FxHashMap<u64, (Side, Decimal)>,
    book: &mut Book,
    action: &str,
    row: &LevelRow<'_>,
) -> Result<bool, String> {
    let side = Side::from(row.side);
    let size = || row.size.ok_or_else(|| "a level with a size".to_owned()).and_then(decimal);
    let mut put = |side: Side, level: Level| match side {
        Side::Buy => book.bids.push(level),
        Side::Sell => book.asks.push(level),
    };
    match action {
        "partial" | "insert" => {
            let price = row.price.ok_or_else(|| "a level with a price".to_owned()).and_then(decimal)?;
            levels.insert(row.id, (side, price));
            put(side, (price, size()?));
        }
        "update" => {
            let Some((held, price)) = levels.get_mut(&row.id) else { return Ok(false) };
            if *held != side {
                // The price has changed sides: it leaves the one and joins the other.
                put(*held, (*price, Decimal::ZERO));
                *held = side;
            }
            put(side, (*price, size()?));
        }
        "delete" => {
            let Some((held, price)) = levels.remove(&row.id) else { return Ok(false) };
            put(held, (price, Decimal::ZERO));
        }
        _ => return Err("action partial, insert, update or delete".to_owned()),
    }
    Ok(true)
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str, expected: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| format!("{expected}: {error}"))
}

fn decimal(raw: &RawValue) -> Result<Decimal, String> {
    Decimal::parse(raw.get()).map_err(|error| error.to_string())
}

fn timestamp_ns(text: &str) -> Result<i64, String> {
    let time = humantime::parse_rfc3339(text).map_err(|error| format!("a timestamp: {error}"))?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|error| error.to_string())?;
    i64::try_from(since.as_nanos()).map_err(|error| error.to_string())
}

fn tick(symbol: &str, event_ns: i64, body: Body<'static>) -> Result<Tick<'static>, String> {
    if !tickgate_protocol::is_symbol(symbol) {
        return Err("a symbol".to_owned());
    }
    Ok(Tick { symbol: Cow::Owned(symbol.to_owned()), event_ns: Some(event_ns), send_ns: None, body })
}
