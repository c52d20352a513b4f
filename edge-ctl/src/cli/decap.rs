//! `edge-ctl decap`: the decapsulation program on a tunnel backend.

mod reverse_path;
mod watch;

#[cfg(test)]
mod renamed;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, path::Path};

use anyhow::Context as _;
use edge_common::{
    abi::{DecapExit, MssExit, MssLimits},
    forward::tunnel_overhead,
};
use serde::Serialize;

use crate::{
    config::AttachMode,
    net,
    xdp::{self, Accepted, DecapPins, Decapsulation, MssPlan, Prefix, XdpError},
};

/// The port that GUE is registered for.
const GUE_PORT: &str = "6080";
/// The variant of GUE with the longest headers.
const LONGEST_GUE: u16 = 0;

/// Options of `edge-ctl decap`.
#[derive(clap::Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct DecapArgs {
    /// Interface that receives the tunnel packets
    #[arg(long, value_name = "DEV")]
    interface: String,

    /// Source address of tunnel packets to accept, or a prefix: `source_v4`, `source_v6` or a range of an edge's configuration
    #[arg(long, value_name = "ADDR|PREFIX", conflicts_with_all = ["detach", "status"])]
    from: Vec<Prefix>,

    /// VIP that accepted tunnel packets may be for, or a prefix of VIPs such as 192.0.2.0/24
    #[arg(long, value_name = "ADDR|PREFIX", conflicts_with_all = ["detach", "status"])]
    vip: Vec<Prefix>,

    /// Address of this host that edges send tunnel packets to; default: all its global addresses that are no VIP
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["detach", "status"])]
    to: Vec<IpAddr>,

    /// Accept tunnel packets in UDP (`gue`), too, to this port
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = GUE_PORT,
        value_parser = clap::value_parser!(u16).range(1..), conflicts_with_all = ["detach", "status"])]
    gue: Option<u16>,

    /// XDP mode of the program
    #[arg(long, value_enum, default_value_t = AttachMode::Native, conflicts_with_all = ["detach", "status"])]
    mode: AttachMode,

    /// Interface by which answers leave, if another one; there SYN-ACKs of VIPs get a segment size that fits the tunnel
    #[arg(long, value_name = "DEV", conflicts_with_all = ["detach", "status"])]
    egress: Vec<String>,

    /// MTU of the path from the edges to here, for the segment size; default: the MTU of the interface
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(576..=65_535),
        conflicts_with_all = ["detach", "status"])]
    mtu: Option<u32>,

    /// Leave the segment size of SYN-ACKs as it is
    #[arg(long, conflicts_with_all = ["egress", "mtu", "detach", "status"])]
    keep_mss: bool,

    /// Keep running: restore the programs, follow this host's addresses, and log dropped packets
    #[arg(long, conflicts_with_all = ["detach", "status"])]
    pub(crate) watch: bool,

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
/// Each error names its remedy.
pub(crate) fn run(args: &DecapArgs, pin_root: &Path, object: &[u8]) -> anyhow::Result<()> {
    if args.watch {
        return watch::run(args, pin_root, object);
    }
    print!("{}", execute(args, pin_root, object)?);
    Ok(())
}

/// As [`run`] without `--watch`; returns the output instead of printing it.
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
    check(args)?;
    let pins = DecapPins::new(pin_root, interface)?;
    let (mut accepted, mss) = (accepted(args), mss_plan(args)?);
    let done = xdp::attach_decap(&pins, &mut accepted, mss.as_ref(), args.mode, object)
        .with_context(|| format!("can't attach the decapsulation to {interface}"))?;
    let mut message = format!(
        "{interface}: {} {} ({} mode)\n",
        if done.replaced { "now takes" } else { "takes" },
        in_words(&accepted),
        args.mode.name()
    );
    message += &mss_in_words(mss.as_ref());
    message += &reverse_path::warning(args).map_or_else(String::new, |warning| format!("  warning: {warning}\n"));
    if done.counters_restarted {
        message += "  counters start at 0: those of the earlier program have another shape\n";
    }
    Ok(message)
}

/// Checks that the arguments name edges and VIPs.
fn check(args: &DecapArgs) -> anyhow::Result<()> {
    let interface = &args.interface;
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
    Ok(())
}

fn accepted(args: &DecapArgs) -> Accepted {
    let canonical = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_canonical).collect();
    Accepted { from: args.from.clone(), to: canonical(&args.to), vips: args.vip.clone(), gue: args.gue }
}

/// The limits on the segment size of SYN-ACKs; `None` with `--keep-mss`.
fn mss_plan(args: &DecapArgs) -> Result<Option<MssPlan>, XdpError> {
    if args.keep_mss {
        return Ok(None);
    }
    let mtu = match args.mtu {
        Some(mtu) => mtu,
        None => net::link_mtu(&args.interface)?,
    };
    // Tunnel packets may come from any of the edges, so the longest outer header counts.
    let outer = tunnel_overhead(!args.from.iter().any(|from| from.is_ipv6()), args.gue.map(|_| LONGEST_GUE));
    let egress = if args.egress.is_empty() { vec![args.interface.clone()] } else { args.egress.clone() };
    Ok(Some(MssPlan { egress, limits: MssLimits::of_tunnel(mtu, outer.into()) }))
}

fn mss_in_words(mss: Option<&MssPlan>) -> String {
    let Some(MssPlan { egress, limits: MssLimits { v4, v6 } }) = mss else { return String::new() };
    format!(
        "  SYN-ACKs of VIPs that leave by {}: segments of {v4} bytes at most, over IPv6 of {v6}\n",
        egress.join(", ")
    )
}

/// Describes the accepted packets.
fn in_words(Accepted { from, to, vips, gue }: &Accepted) -> String {
    fn list<T: ToString>(items: &[T]) -> String {
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
    let udp = gue.map_or_else(String::new, |port| format!(", also in UDP to port {port}"));
    format!("tunnel packets from {} to {}{udp}, for {}", list(from), list(to), list(vips))
}

/// The output of `--status`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Status {
    interface: String,
    mode: AttachMode,
    #[serde(flatten)]
    accepted: Accepted,
    exits: Vec<Count>,
    /// The limits on SYN-ACKs; `None` if SYN-ACKs are not changed.
    mss: Option<MssStatus>,
}

/// The part of `--status` about SYN-ACKs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct MssStatus {
    egress: Vec<String>,
    /// Largest segment in bytes, over IPv4 and over IPv6.
    v4: u32,
    v6: u32,
    exits: Vec<Count>,
}

/// Packets that left by an exit, over all CPUs, since the counters were created.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Count {
    name: &'static str,
    packets: u64,
    meaning: &'static str,
}

fn status(pins: &DecapPins) -> anyhow::Result<Status> {
    let Decapsulation { mode, accepted, packets, mss } = xdp::look_at_decap(pins)?;
    let count = |(name, meaning, packets): (_, &'static str, _)| Count { name, packets, meaning: meaning.trim() };
    let exits = DecapExit::ALL.iter().zip(packets).map(|(exit, packets)| (exit.name(), exit.meaning(), packets));
    let mss = mss.map(|(MssPlan { egress, limits: MssLimits { v4, v6 } }, packets)| {
        let exits = MssExit::ALL.iter().zip(packets).map(|(exit, packets)| (exit.name(), exit.meaning(), packets));
        MssStatus { egress, v4, v6, exits: exits.map(count).collect() }
    });
    Ok(Status { interface: pins.interface().to_owned(), mode, accepted, exits: exits.map(count).collect(), mss })
}

impl Status {
    fn table(&self) -> String {
        let head = format!("{}: {} ({} mode)\n", self.interface, in_words(&self.accepted), self.mode.name());
        let rows = |text: String, exits: &[Count]| {
            exits.iter().fold(text, |table, count| {
                table + &format!("  {:<16} {:>12}  {}\n", count.name, count.packets, count.meaning)
            })
        };
        let table = rows(head, &self.exits);
        let Some(MssStatus { egress, v4, v6, exits }) = &self.mss else { return table };
        let plan = MssPlan { egress: egress.clone(), limits: MssLimits { v4: *v4, v6: *v6 } };
        rows(table + &mss_in_words(Some(&plan)), exits)
    }
}
