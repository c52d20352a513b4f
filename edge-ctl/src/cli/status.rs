//! `edge-ctl status`, once or each second.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use serde::Serialize;

use super::{
    NOTICE,
    args::{Dirs, StatusArgs},
    coloured,
    failure::Failure,
    print_error, print_line, render, to_json,
};
use crate::{
    control::{
        chain,
        headline::{Headline, headline},
        offline::Offline,
        status::{Part, Sample, Status},
    },
    daemon::client::{Client, ClientError, SOON},
};

/// Refresh interval of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A status, and its judgement in one line.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    pub(super) headline: Headline,
    #[serde(flatten)]
    pub(super) status: Status,
}

impl Judged {
    /// Judges all of a status, and keeps a part of it.
    pub(super) fn new(mut status: Status, part: &Part) -> Result<Self, Failure> {
        let headline = headline(&status);
        part.keep(&mut status).map_err(|unknown| Failure::Pattern {
            pattern: unknown.to_string(),
            why: "no such name is in force; `edge-ctl status` lists them".to_owned(),
        })?;
        Ok(Self { headline, status })
    }
}

pub(super) async fn status(dirs: &Dirs, args: &StatusArgs) -> Result<(), Failure> {
    let mut earlier = None;
    let part = args.part();
    if !args.watch {
        let judged = Judged::new(status_once(dirs, &mut earlier, true).await?, &part)?;
        if args.json {
            print_line(&to_json(&judged, true));
        } else {
            let _ = write!(io::stdout(), "{}", shown(&judged, args, 1));
        }
        return Ok(());
    }
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    let mut notified = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => {
                if io::stdout().is_terminal() && !args.json {
                    print_line("");
                }
                return Ok(());
            }
        }
        let terminal = io::stdout().is_terminal();
        // On a terminal the status itself shows that there is no daemon; a notice on standard error would tear the
        // screen.
        let looked = status_once(dirs, &mut earlier, !terminal && !notified).await;
        let text = match looked.and_then(|status| Judged::new(status, &part)) {
            Ok(judged) => {
                notified = judged.status.daemon.is_none();
                if args.json { to_json(&judged, false) } else { shown(&judged, args, 0) }
            }
            // `--watch` on a terminal continues until the daemon is back.
            Err(failure) if terminal => format!("edge-ctl: {}", chain(&failure)),
            Err(failure) => return Err(failure),
        };
        let written = if terminal && !args.json {
            repaint(&text)
        } else {
            writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush())
        };
        if written.is_err() {
            return Ok(());
        }
    }
}

/// The status as text. On a terminal it leaves `spare` rows free.
fn shown(judged: &Judged, args: &StatusArgs, spare: usize) -> String {
    let Judged { headline, status } = judged;
    let colour = coloured(&io::stdout());
    let whole = render::status(headline, status, colour);
    match terminal_size().filter(|_| !args.all) {
        Some((rows, columns)) => {
            let room = render::glance::Room { rows: rows.saturating_sub(spare), columns };
            if room.holds(&whole) { whole } else { render::glance::glance(headline, status, room, colour) }
        }
        None => whole,
    }
}

/// Overwrites the screen without clearing it first, which would flicker. Text that does not fit is cut off.
fn repaint(text: &str) -> io::Result<()> {
    let rows = terminal_size().map_or(usize::MAX, |(rows, _)| rows);
    let mut out = io::stdout().lock();
    // Cursor to the home position, without wrapping of long lines.
    write!(out, "\x1b[H\x1b[?7l")?;
    for (row, line) in text.lines().take(rows).enumerate() {
        write!(out, "{}{line}\x1b[K", if row == 0 { "" } else { "\r\n" })?;
    }
    write!(out, "\x1b[J\x1b[?7h")?;
    out.flush()
}

/// Rows and columns of the terminal on standard output.
fn terminal_size() -> Option<(usize, usize)> {
    // SAFETY: a `winsize` is four integers; zero is a value of each.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one `winsize`, to which the pointer goes for the whole call.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0 && size.ws_col > 0).then(|| (size.ws_row.into(), size.ws_col.into()))
}

/// The status: the daemon's, or without a daemon that of the pinned maps.
pub(super) async fn status_once(dirs: &Dirs, earlier: &mut Option<Sample>, notify: bool) -> Result<Status, Failure> {
    let answer = match Client::connect(&dirs.socket(), SOON).await {
        Ok(mut client) => client.get("/v1/status").await,
        Err(error) => Err(error),
    };
    match answer {
        Err(ClientError::Absent { .. } | ClientError::Slow(_)) => offline_status(dirs, earlier, notify),
        answer => Ok(answer?),
    }
}

fn offline_status(dirs: &Dirs, earlier: &mut Option<Sample>, notify: bool) -> Result<Status, Failure> {
    let failed = |error| Failure::offline(error, dirs);
    let mut offline = Offline::open(&dirs.pin_dir).map_err(failed)?;
    if notify {
        print_error(NOTICE);
    }
    offline.status(earlier).map_err(failed)
}
