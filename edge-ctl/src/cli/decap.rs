//! `edge-ctl decap`: the decapsulation program on a tunnel backend.

#[cfg(test)]
mod tests;

use std::{net::IpAddr, path::Path};

use anyhow::Context as _;
use edge_common::abi::DecapExit;
use serde::Serialize;

use crate::{
    config::AttachMode,
    xdp::{self, Accepted, DecapPins, Decapsulation, Vips},
};

/// Options of `edge-ctl decap`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct DecapArgs {
    /// Interface that receives the tunnel packets
    #[arg(long, value_name = "DEV")]
    interface: String,

    /// Source address of tunnel packets to accept: `source_v4` or `source_v6` of an edge's configuration
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["detach", "status"])]
    from: Vec<IpAddr>,

    /// VIP that accepted tunnel packets may be for, or a prefix of VIPs such as 192.0.2.0/24
    #[arg(long, value_name = "ADDR|PREFIX", conflicts_with_all = ["detach", "status"])]
    vip: Vec<Vips>,

    /// Address of this host that edges send tunnel packets to; default: all its global addresses that are no VIP
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["detach", "status"])]
    to: Vec<IpAddr>,

    /// XDP mode of the program
    #[arg(long, value_enum, default_value_t = AttachMode::Native, conflicts_with_all = ["detach", "status"])]
    mode: AttachMode,

    /// Detach the program from the interface
    #[arg(long, conflicts_with = "status")]
    detach: bool,

    /// Show what is accepted, and the counters
    #[arg(long)]
    status: bool,

    /// Print the status as JSON
    #[arg(long, requires = "status")]
    json: bool,
}

/// Runs `edge-ctl decap`, with pins under `pin_root` and the program in `object`; prints on stdout.
///
/// # Errors
///
/// Each with its remedy.
pub(crate) fn run(args: &DecapArgs, pin_root: &Path, object: &[u8]) -> anyhow::Result<()> {
    print!("{}", execute(args, pin_root, object)?);
    Ok(())
}

/// As [`run`]; returns what is to be printed.
fn execute(args: &DecapArgs, pin_root: &Path, object: &[u8]) -> anyhow::Result<String> {
    let interface = &args.interface;
    if args.status {
        let status = status(&DecapPins::new(pin_root, interface)?)?;
        return Ok(if args.json { serde_json::to_string_pretty(&status)? + "\n" } else { status.table() });
    }
    if args.detach {
        let was = xdp::detach_decap(&DecapPins::new(pin_root, interface)?)?;
        let message = if was { "decapsulation detached" } else { "no decapsulation was attached" };
        return Ok(format!("{interface}: {message}\n"));
    }
    anyhow::ensure!(
        !args.from.is_empty(),
        "no edge to accept tunnel packets from\n  write: edge-ctl decap --interface {interface} --from ADDR --vip ADDR, \
         with the tunnel source of each edge (`source_v4` or `source_v6` under [tunnel] in its configuration)"
    );
    anyhow::ensure!(
        !args.vip.is_empty(),
        "no VIP to accept packets for\n  write: edge-ctl decap --interface {interface} --from ADDR --vip ADDR, with each \
         VIP that this backend serves (`vip` under [[service]] in the edges' configuration), or a prefix of VIPs"
    );
    let pins = DecapPins::new(pin_root, interface)?;
    let canonical = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_canonical).collect();
    let mut accepted = Accepted { from: canonical(&args.from), to: canonical(&args.to), vips: args.vip.clone() };
    let done = xdp::attach_decap(&pins, &mut accepted, args.mode, object)
        .with_context(|| format!("can't attach the decapsulation to {interface}"))?;
    let mut message = format!(
        "{interface}: {} {} ({} mode)\n",
        if done.replaced { "now takes" } else { "takes" },
        in_words(&accepted),
        args.mode.name()
    );
    if done.counters_restarted {
        message += "  counters start at 0: those of the earlier program have another shape\n";
    }
    Ok(message)
}

/// Which packets are taken.
fn in_words(Accepted { from, to, vips }: &Accepted) -> String {
    fn list<T: ToString>(items: &[T]) -> String {
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
    format!("tunnel packets from {} to {}, for {}", list(from), list(to), list(vips))
}

/// What `--status` shows.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Status {
    interface: String,
    mode: AttachMode,
    #[serde(flatten)]
    accepted: Accepted,
    exits: Vec<Count>,
}

/// How many packets left by an exit, on all CPUs, since the counters were made.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Count {
    name: &'static str,
    packets: u64,
    meaning: &'static str,
}

fn status(pins: &DecapPins) -> anyhow::Result<Status> {
    let Decapsulation { mode, accepted, packets } = xdp::look_at_decap(pins)?;
    let exits = DecapExit::ALL.iter().zip(packets);
    let count =
        |(exit, packets): (&DecapExit, u64)| Count { name: exit.name(), packets, meaning: exit.meaning().trim() };
    Ok(Status { interface: pins.interface().to_owned(), mode, accepted, exits: exits.map(count).collect() })
}

impl Status {
    fn table(&self) -> String {
        let head = format!("{}: {} ({} mode)\n", self.interface, in_words(&self.accepted), self.mode.name());
        self.exits.iter().fold(head, |table, count| {
            table + &format!("  {:<16} {:>12}  {}\n", count.name, count.packets, count.meaning)
        })
    }
}
