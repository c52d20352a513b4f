//! `edge-ctl top`: the status as a screen that is live, with the keys to move in it.

mod snapshot;
mod page;
mod rows;
mod screen;
mod draw;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal},
    thread,
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel, unbounded_channel},
    time::MissedTickBehavior,
};

use self::{
    screen::{Screen, Then},
    snapshot::Snapshot,
};
use super::{args::Dirs, failure::Failure, runtime, status::status_once};
use crate::control::{
    chain,
    status::{Sample, Status},
};

/// Time between two readings of the status.
const INTERVAL: Duration = Duration::from_secs(1);

/// A reading, or why there is none.
type Reading = Result<Status, String>;

pub(super) fn top(dirs: &Dirs) -> Result<(), Failure> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Failure::NoTerminal);
    }
    runtime(false)?.block_on(show(dirs))
}

async fn show(dirs: &Dirs) -> Result<(), Failure> {
    let mut earlier = None;
    // What fails at once is better told as by any other command.
    let first = status_once(dirs, &mut earlier, false).await?;
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [terminate, interrupt, hangup] = signals.map(signal);
    let signals = [terminate, interrupt, hangup].into_iter().collect::<io::Result<Vec<_>>>();
    let signals = signals.map_err(Failure::Terminal)?;
    let (sender, readings) = channel(1);
    // Also restores the terminal when the program panics.
    let mut terminal = ratatui::try_init().map_err(Failure::Terminal)?;
    let mut screen = Screen::new(Snapshot::new(first, None));
    let ended = tokio::select! {
        () = read(dirs, &mut earlier, &sender) => Ok(()),
        ended = interact(&mut terminal, &mut screen, readings, keys(), signals) => ended,
    };
    let restored = ratatui::try_restore();
    ended.and(restored).map_err(Failure::Terminal)
}

/// Reads the status again and again.
async fn read(dirs: &Dirs, earlier: &mut Option<Sample>, readings: &Sender<Reading>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let reading = status_once(dirs, earlier, false).await.map_err(|failure| chain(&failure));
        if readings.send(reading).await.is_err() {
            return;
        }
    }
}

/// What is typed. The channel closes when the terminal can't be read any more.
fn keys() -> UnboundedReceiver<Event> {
    let (sender, keys) = unbounded_channel();
    // The thread ends with the process: a read of a terminal can't be interrupted.
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    keys
}

async fn interact(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    mut readings: Receiver<Reading>,
    mut keys: UnboundedReceiver<Event>,
    mut signals: Vec<Signal>,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| draw::draw(frame, screen))?;
        let ended = futures::future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv())));
        tokio::select! {
            _ = ended => return Ok(()),
            Some(reading) = readings.recv() => screen.take(reading),
            event = keys.recv() => match event {
                Some(Event::Key(key)) if screen.press(key) == Then::Quit => return Ok(()),
                // Others, such as a new size, only need the screen to be drawn again.
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}
