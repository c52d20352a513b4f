//! The XDP program on an interface, as the kernel reports it.

use anyhow::{Context as _, Result};

use super::served::Mode;
use crate::lab::{netns::Netns, tool};

/// The XDP mode of an interface in this namespace, and the program's number; `None` without a program.
pub fn attached(netns: &Netns, interface: &str) -> Result<Option<(Mode, u32)>> {
    let shown = tool::run(netns.command("ip")?.args(["link", "show", "dev", interface]))?;
    let words: Vec<_> = shown.split_whitespace().collect();
    let mode = words.iter().find_map(|word| match *word {
        "xdp" => Some(Mode::Native),
        "xdpgeneric" => Some(Mode::Generic),
        _ => None,
    });
    let Some(mode) = mode else { return Ok(None) };
    let id = words.windows(3).find(|words| words[..2] == ["prog/xdp", "id"]).context("a program has a number")?;
    Ok(Some((mode, id[2].parse()?)))
}
