//! What is on the screen.

use super::sample::{Rates, Sample};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table};
use std::time::Duration;
use tickgate_gateway::clock;
use tickgate_gateway::metrics::watched;

/// Which lists are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    All,
    Feeds,
    Sessions,
    Symbols,
}

impl Pane {
    pub fn next(self) -> Self {
        match self {
            Self::All => Self::Feeds,
            Self::Feeds => Self::Sessions,
            Self::Sessions => Self::Symbols,
            Self::Symbols => Self::All,
        }
    }
}

/// What is shown, and how.
pub(super) struct View {
    address: String,
    every: Duration,
    pub sample: Option<Sample>,
    pub rates: Option<Rates>,
    lost: Option<String>,
    pub pane: Pane,
    pub is_paused: bool,
    pub is_help: bool,
    /// For a file or a pipe: without keys and frames.
    pub is_plain: bool,
}

/// Rows of a list that is printed.
const PLAIN_ROWS: usize = 10;

const HELP: &str = "\
q, Esc, Ctrl-C   quit
Tab, 0           the next list, or all of them
1 2 3            feeds, sessions, symbols alone
p, space         pause, and go on
?                this help

clients     open sessions, and how many came and went a second
latency     from reading a tick to its last byte's
            being taken by the socket, over some ten seconds
conflated   share of what was offered that a newer state
            replaced before it was sent
lag         how far the feed is behind what Kafka has

Sessions are in order of how old their queue is, symbols of
how many ticks came in the last seconds, and of how many
sessions named them.";

impl View {
    pub fn new(address: &str, every: Duration) -> Self {
        Self {
            address: address.to_owned(),
            every,
            sample: None,
            rates: None,
            lost: None,
            pane: Pane::All,
            is_paused: false,
            is_help: false,
            is_plain: false,
        }
    }

    /// Takes a sample over, unless paused.
    pub fn take(&mut self, sample: Sample) {
        self.lost = None;
        if self.is_paused {
            return;
        }
        self.rates = self.sample.as_ref().map(|before| Rates::between(before, &sample));
        self.sample = Some(sample);
    }

    /// The gateway cannot be asked: what was shown stays, and that is said.
    pub fn lose(&mut self, what: String) {
        self.lost = Some(what);
    }

    pub fn draw(&self, frame: &mut Frame<'_>) {
        let [head, body, foot] = Layout::vertical([
            Constraint::Length(4),
            Constraint::Fill(1),
            Constraint::Length(u16::from(!self.is_plain)),
        ])
        .areas(frame.area());
        self.head(frame, head);
        let Some(sample) = &self.sample else { return };
        match self.pane {
            Pane::Feeds => self.feeds(frame, body, sample),
            Pane::Sessions => self.sessions(frame, body, sample),
            Pane::Symbols => self.symbols(frame, body, sample),
            Pane::All => {
                // A title and names of columns, and a row of space.
                let feeds = (sample.feeds.len() as u16).clamp(1, 6) + 3;
                let sessions = match self.is_plain {
                    true => Constraint::Length((sample.sessions.len().min(PLAIN_ROWS) as u16).max(1) + 3),
                    false => Constraint::Fill(1),
                };
                let [feeds, sessions, symbols] =
                    Layout::vertical([Constraint::Length(feeds), sessions, Constraint::Fill(1)]).areas(body);
                self.feeds(frame, feeds, sample);
                self.sessions(frame, sessions, sample);
                self.symbols(frame, symbols, sample);
            }
        }
        if !self.is_plain {
            self.foot(frame, foot);
        }
        if self.is_help {
            help(frame);
        }
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(sample) = &self.sample else { return };
        let metrics = &sample.metrics;
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let version = metrics.label(watched::BUILD_INFO, "version").unwrap_or("?");
        let started_s = metrics.sum(watched::STARTED, None).unwrap_or(0.0);
        let up_s = (clock::wall_ns() as f64 / 1e9 - started_s).max(0.0) as u64;
        let is_ready = metrics.sum(watched::GATEWAY_READY, None) == Some(1.0);
        let mut first = vec![
            Span::styled(format!("Tickgate {version}"), bold),
            Span::raw(format!(" at {} · up {} · ", self.address, time(up_s))),
            match is_ready {
                true => Span::styled("ready", Style::new().fg(Color::Green)),
                false => Span::styled("NOT READY", Style::new().fg(Color::Red)),
            },
        ];
        if let Some(lost) = &self.lost {
            let what = format!(
                " · no answer: {lost}; trying again every {}",
                humantime::format_duration(self.every)
            );
            first.push(Span::styled(what, Style::new().fg(Color::Red)));
        } else if self.is_paused {
            first.push(Span::styled(" · paused", Style::new().fg(Color::Yellow)));
        }
        let rate = |of: fn(&Rates) -> f64| {
            self.rates.as_ref().map_or_else(|| "-".to_owned(), |rates| count(of(rates)))
        };
        let share = |of: fn(&Rates) -> f64| {
            self.rates.as_ref().map_or_else(|| "-".to_owned(), |rates| format!("{:.1} %", of(rates)))
        };
        let gauge = |name: &str| metrics.sum(name, None).map_or_else(|| "-".to_owned(), count);
        let second = format!(
            "clients {} (+{}/s -{}/s)   subscriptions {}   ticks {}/s   deliveries {}/s",
            gauge(watched::SESSIONS_OPEN),
            rate(|rates| rates.opened),
            rate(|rates| rates.closed),
            gauge(watched::SUBSCRIPTIONS_HELD),
            rate(|rates| rates.ticks),
            rate(|rates| rates.sent),
        );
        let quantile = |quantile: &str| {
            let labels = [("stage", "ingest_to_written"), ("q", quantile)];
            let seconds = metrics.one(watched::LATENCY_QUANTILES, &labels);
            seconds.map_or_else(|| "-".to_owned(), latency)
        };
        let lag = metrics
            .max(watched::FEED_LAG_SECONDS)
            .map_or_else(|| "-".to_owned(), |lag_s| format!("{lag_s:.1} s"));
        let third = format!(
            "latency p50 {}  p99 {}  p99.9 {}   conflated {}   dropped {}   lag {lag}",
            quantile("0.5"),
            quantile("0.99"),
            quantile("0.999"),
            share(|rates| rates.conflated),
            share(|rates| rates.dropped),
        );
        frame.render_widget(Paragraph::new(vec![Line::from(first), second.into(), third.into()]), area);
    }

    fn foot(&self, frame: &mut Frame<'_>, area: Rect) {
        let keys = "q quit   Tab next list   0 all   1 feeds   2 sessions   3 symbols   p pause   ? help";
        let style = Style::new().add_modifier(Modifier::DIM);
        frame.render_widget(Paragraph::new(keys).style(style), area);
    }

    fn feeds(&self, frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
        let rows = sample.feeds.iter().map(|feed| {
            let caught_up = feed.partitions.iter().filter(|partition| partition.caught_up).count();
            let newest = feed.partitions.iter().filter_map(|partition| partition.record_age_ms).min();
            let cells = [
                feed.feed.clone(),
                feed.state.clone(),
                feed.delayed_s.to_string(),
                format!("{caught_up}/{}", feed.partitions.len()),
                count(feed.lag_records as f64),
                newest.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
                count(feed.peak_100ms_per_s as f64),
                count(feed.peak_10ms_per_s as f64),
            ];
            (cells, (feed.state != "live").then_some(Color::Yellow))
        });
        let columns = [
            ("FEED", 24, false),
            ("STATE", 8, false),
            ("LATE_S", 7, true),
            ("CAUGHT_UP", 10, true),
            ("LAG", 10, true),
            ("NEWEST", 12, true),
            ("PEAK_100MS/S", 13, true),
            ("PEAK_10MS/S", 12, true),
        ];
        self.list(frame, area, "Feeds", columns, rows);
    }

    fn sessions(&self, frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
        let rows = sample.sessions.iter().map(|session| {
            let cells = [
                session.session.clone(),
                session.peer.clone(),
                session.queue_age_ms.to_string(),
                count(session.queued_bytes as f64),
                session.subscriptions.to_string(),
                count(session.sent as f64),
                count(session.conflated as f64),
                count(session.dropped as f64),
                time(session.open_s),
            ];
            (cells, (session.queue_age_ms >= 1_000).then_some(Color::Yellow))
        });
        let columns = [
            ("SESSION", 18, false),
            ("PEER", 24, false),
            ("AGE_MS", 8, true),
            ("QUEUED_B", 10, true),
            ("SUBS", 6, true),
            ("SENT", 9, true),
            ("CONFLATED", 10, true),
            ("DROPPED", 9, true),
            ("OPEN", 9, true),
        ];
        self.list(frame, area, "Slowest sessions", columns, rows);
    }

    fn symbols(&self, frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
        let [hot, wanted] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
        let rows = sample
            .symbols
            .hottest
            .iter()
            .map(|hot| ([hot.symbol.clone(), count(hot.ticks_per_s), count(hot.ticks as f64)], None));
        let columns = [("SYMBOL", 24, false), ("TICKS/S", 10, true), ("TICKS", 12, true)];
        self.list(frame, hot, "Hottest symbols", columns, rows);
        let rows = sample.symbols.most_subscribed.iter().map(|wanted| {
            ([wanted.target.clone(), count(wanted.sessions as f64), count(wanted.subscriptions as f64)], None)
        });
        let columns = [("NAMED", 24, false), ("SESSIONS", 10, true), ("SUBSCRIPTIONS", 14, true)];
        self.list(frame, wanted, "Most subscribed", columns, rows);
    }

    /// A table. Columns have a name, a width, and whether they are numbers.
    fn list<const N: usize>(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        title: &'static str,
        columns: [(&'static str, u16, bool); N],
        rows: impl Iterator<Item = ([String; N], Option<Color>)>,
    ) {
        let aligned = |text: String, is_number: bool| {
            let alignment = if is_number { Alignment::Right } else { Alignment::Left };
            Cell::from(Line::from(text).alignment(alignment))
        };
        let names = columns.map(|(name, _, is_number)| aligned(name.to_owned(), is_number));
        let rows = rows.map(|(cells, color)| {
            let cells =
                cells.into_iter().zip(columns).map(|(text, (.., is_number))| aligned(text, is_number));
            Row::new(cells).style(color.map_or_else(Style::new, |color| Style::new().fg(color)))
        });
        let rows = rows.take(if self.is_plain { PLAIN_ROWS } else { usize::MAX });
        let header = Row::new(names).style(Style::new().add_modifier(Modifier::DIM));
        let widths = columns.map(|(_, width, _)| Constraint::Length(width));
        let style = Style::new().add_modifier(Modifier::BOLD).fg(Color::Cyan);
        let borders = if self.is_plain { Borders::NONE } else { Borders::TOP };
        let block = Block::new().borders(borders).title(Span::styled(title, style));
        frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
    }
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let [_, middle, _] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Max(HELP.lines().count() as u16 + 2),
        Constraint::Fill(1),
    ])
    .areas(area);
    let [_, middle, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Max(66), Constraint::Fill(1)]).areas(middle);
    frame.render_widget(Clear, middle);
    frame.render_widget(
        Paragraph::new(HELP).block(Block::bordered().title("Keys, and what is shown")),
        middle,
    );
}

/// A number for a person: whole, with separators.
fn count(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn latency(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A screen as lines of text, without what is empty at their ends and at its own.
pub(super) fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let rows = (0..area.height).map(|y| {
        let row: String =
            (0..area.width).filter_map(|x| buffer.cell((x, y))).map(|cell| cell.symbol()).collect();
        row.trim_end().to_owned()
    });
    let all = rows.collect::<Vec<_>>().join("\n");
    all.trim_end().to_owned() + "\n"
}

#[test]
fn numbers_are_for_people() {
    assert_eq!([0.0, 999.4, 1_000.0, 1_234_567.0, -1.0].map(count), ["0", "999", "1,000", "1,234,567", "0"]);
    assert_eq!([59, 61, 3_661, 90_000].map(time), ["59s", "1m 01s", "1h 01m", "1d 01h"]);
    assert_eq!([0.000_25, 0.012_3, 2.5].map(latency), ["250 µs", "12.30 ms", "2.50 s"]);
}
