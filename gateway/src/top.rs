//! `tickgate top`: a running gateway, live in a terminal, from what its admin listener tells everybody.
//!
//! One thread asks, the main one draws and reads keys: neither waits for the other, so keys answer while a gateway does not.

mod ask;
mod draw;
mod metrics;
mod sample;
#[cfg(test)]
mod tests;

use ask::{Asker, Refused};
use draw::{Pane, View};
use ratatui::DefaultTerminal;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use sample::{Rates, Sample};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tickgate_gateway::cli::TopArgs;
use tokio::signal::unix::{SignalKind, signal};

/// No gateway answers (`EX_UNAVAILABLE`).
const EXIT_UNAVAILABLE: u8 = 69;
/// Longest wait for a key, so that what was asked meanwhile is drawn.
const KEYS: Duration = Duration::from_millis(50);
/// Rows that are asked for: more than a terminal shows.
pub(crate) const ROWS: usize = 100;
/// Columns and rows of what is printed once: rows that stay empty are left out.
const ONCE: (u16, u16) = (120, 60);
/// Updates that may wait to be drawn.
const UPDATES: usize = 4;

/// What the asking thread tells the drawing one.
enum Update {
    Sample(Box<Sample>),
    /// The gateway cannot be asked now.
    Lost(String),
    /// A signal asks to stop.
    Stop,
}

/// Shows a gateway until it is told to stop, or prints what there is once.
pub(crate) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let asker = Asker::new(&args.admin, args.token_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let first = match runtime.block_on(asker.sample()) {
        Ok(sample) => sample,
        Err(Refused { what, hint }) => {
            eprintln!("tickgate: no gateway can be asked at http://{}: {what}\n{hint}", asker.address());
            return Ok(ExitCode::from(EXIT_UNAVAILABLE));
        }
    };
    if args.once || !std::io::stdout().is_terminal() {
        let second = runtime.block_on(async {
            tokio::time::sleep(args.every).await;
            asker.sample().await
        });
        match second {
            Ok(second) => print!("{}", once(asker.address(), &first, &second)?),
            Err(Refused { what, .. }) => anyhow::bail!("the gateway answers no longer: {what}"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut view = View::new(asker.address(), args.every);
    view.take(first);
    let (updates, arriving) = sync_channel(UPDATES);
    let every = args.every;
    std::thread::Builder::new().name("asker".to_owned()).spawn(move || {
        let stopped = runtime.block_on(keep_asking(&asker, every, &updates));
        let _ = stopped.map_or_else(
            |error| updates.send(Update::Lost(error.to_string())),
            |()| updates.send(Update::Stop),
        );
    })?;
    // It also puts the terminal back when something panics.
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut terminal, &mut view, &arriving);
    ratatui::restore();
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Asks again and again, until a signal comes or nobody draws any more.
async fn keep_asking(asker: &Asker, every: Duration, updates: &SyncSender<Update>) -> std::io::Result<()> {
    // Without these the process would leave a terminal behind that shows nothing of what is typed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            sample = async { ticks.tick().await; asker.sample().await } => {
                let update = match sample {
                    Ok(sample) => Update::Sample(Box::new(sample)),
                    Err(Refused { what, .. }) => Update::Lost(what),
                };
                if updates.send(update).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn show(terminal: &mut DefaultTerminal, view: &mut View, arriving: &Receiver<Update>) -> anyhow::Result<()> {
    terminal.draw(|frame| view.draw(frame))?;
    loop {
        let mut is_changed = false;
        if event::poll(KEYS)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    if !is_going_on(view, key) {
                        return Ok(());
                    }
                    is_changed = true;
                }
                Event::Resize(..) => is_changed = true,
                _ => {}
            }
        }
        for update in arriving.try_iter() {
            is_changed = true;
            match update {
                Update::Stop => return Ok(()),
                Update::Sample(sample) => view.take(*sample),
                Update::Lost(what) => view.lose(what),
            }
        }
        if is_changed {
            terminal.draw(|frame| view.draw(frame))?;
        }
    }
}

/// Does what a key is for; says whether to go on.
fn is_going_on(view: &mut View, key: KeyEvent) -> bool {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if is_control => return false,
        KeyCode::Esc if view.is_help => view.is_help = false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('?' | 'h') => view.is_help = !view.is_help,
        KeyCode::Char('p' | ' ') => view.is_paused = !view.is_paused,
        KeyCode::Char('0') => view.pane = Pane::All,
        KeyCode::Char('1') => view.pane = Pane::Feeds,
        KeyCode::Char('2') => view.pane = Pane::Sessions,
        KeyCode::Char('3') => view.pane = Pane::Symbols,
        KeyCode::Tab => view.pane = view.pane.next(),
        KeyCode::BackTab => view.pane = view.pane.next().next().next(),
        _ => {}
    }
    true
}

/// What a terminal would show, as lines of text.
fn once(address: &str, first: &Sample, second: &Sample) -> anyhow::Result<String> {
    let mut view = View::new(address, Duration::from_nanos(second.taken_ns - first.taken_ns));
    view.rates = Some(Rates::between(first, second));
    view.sample = Some(second.clone());
    view.is_plain = true;
    let mut terminal = Terminal::new(TestBackend::new(ONCE.0, ONCE.1))?;
    terminal.draw(|frame| view.draw(frame))?;
    Ok(draw::text(terminal.backend().buffer()))
}
