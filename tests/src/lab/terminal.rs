//! A program in a pseudo terminal, and the screen that a person would see.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};

use super::{patience::patience, wait_until};

/// Time for a program to show something, or to end.
const SOON: Duration = Duration::from_secs(15);

/// A program in a terminal. It is killed and reaped when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    /// The side of the program; open for as long as the test looks at the terminal's settings.
    program: Option<OwnedFd>,
    person: File,
    shown: Arc<Mutex<Shown>>,
    reader: Option<JoinHandle<()>>,
    /// The terminal's settings before the program.
    before: Termios,
}

struct Shown(vt100::Parser);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.screen().contents())
    }
}

impl Terminal {
    /// Starts a program in a terminal of this size.
    pub fn start(command: &mut Command, (rows, columns): (u16, u16)) -> Result<Self> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).context("no pseudo terminal")?;
        let before = tcgetattr(&pair.slave)?;
        let side = || pair.slave.try_clone();
        command.env("TERM", "xterm-256color").stdin(side()?).stdout(side()?).stderr(side()?);
        let child = command.spawn()?;
        // The command has its own copies of the descriptors.
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let person = File::from(pair.master);
        let mut output = person.try_clone()?;
        let shown = Arc::new(Mutex::new(Shown(vt100::Parser::new(rows, columns, 0))));
        let into = Arc::clone(&shown);
        // It ends when no program has the terminal open any more.
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                into.lock().unwrap_or_else(PoisonError::into_inner).0.process(&bytes[..length]);
            }
        });
        Ok(Self { child, program: Some(pair.slave), person, shown, reader: Some(reader), before })
    }

    /// What `look` sees on the screen.
    pub fn screen<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.shown.lock().unwrap_or_else(PoisonError::into_inner).0.screen())
    }

    /// The text on the screen.
    pub fn text(&self) -> String {
        self.screen(vt100::Screen::contents)
    }

    /// Waits until `is_it` is true of the text on the screen.
    pub fn shows(&self, mut is_it: impl FnMut(&str) -> bool) -> Result<()> {
        let seen = wait_until(patience(SOON), || Ok(is_it(&self.text())))?;
        anyhow::ensure!(seen, "the screen stays so:\n{}", self.text());
        Ok(())
    }

    pub fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.person.write_all(keys.as_bytes())?)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().try_into()?), signal)?)
    }

    /// Waits until the program has ended.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        let mut status = None;
        wait_until(patience(SOON), || {
            status = child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.with_context(|| format!("it goes on:\n{}", self.text()))
    }

    /// Whether the terminal is, once the last output is read, as it was before the program: its settings, its cursor, and
    /// the screen below the program's.
    pub fn is_restored(&self) -> Result<bool> {
        let program = self.program.as_ref().context("it is open")?;
        let is_plain = |screen: &vt100::Screen| !screen.alternate_screen() && !screen.hide_cursor();
        wait_until(patience(SOON), || Ok(tcgetattr(program)? == self.before && self.screen(is_plain)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        self.program = None;
        if let Some(reader) = self.reader.take() {
            let _done = reader.join();
        }
    }
}
