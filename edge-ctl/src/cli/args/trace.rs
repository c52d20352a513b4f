//! The flags of `trace`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use edge_common::abi::{ClientPrefix, Exit};

/// What is traced, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// Only packets of this service.
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// Only packets to or from this backend.
    #[arg(long, value_name = "BACKEND")]
    pub(crate) backend: Option<String>,
    /// Only packets to or from these clients, and ICMP errors about such packets: an address or a prefix.
    #[arg(long, value_name = "ADDRESS", value_parser = clients)]
    pub(crate) client: Option<ClientPrefix>,
    /// Only packets that leave by this exit; a pattern such as `*_silent`, and repeatable.
    #[arg(long, value_name = "EXIT", value_parser = exits)]
    pub(crate) exit: Vec<Exits>,
    /// End after N frames.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) time: Option<Duration>,
    /// Look at one packet in N; the others pay for a counter.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sample: u32,
    /// Most frames that each CPU writes in a second.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Write the frames into this file, for Wireshark and tshark, and not to the terminal. It must not exist.
    #[arg(long, value_name = "FILE.pcapng", conflicts_with = "json")]
    pub(crate) write: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The exits whose names match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exits(pub(crate) Vec<Exit>);

fn exits(text: &str) -> Result<Exits, String> {
    let pattern = glob::Pattern::new(text).map_err(|error| error.to_string())?;
    let found: Vec<_> = Exit::ALL.iter().copied().filter(|exit| pattern.matches(exit.name())).collect();
    if found.is_empty() {
        let names: Vec<_> = Exit::ALL.iter().map(|exit| exit.name()).collect();
        return Err(format!("no exit has this name; there are {}", names.join(", ")));
    }
    Ok(Exits(found))
}

fn clients(text: &str) -> Result<ClientPrefix, String> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| "no address".to_owned())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match length.map(str::parse::<u8>) {
        None => longest,
        Some(Ok(length)) if length <= longest => length,
        Some(_) => return Err(format!("the length of this prefix is 0 to {longest}")),
    };
    Ok(ClientPrefix::new(address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_exits() {
        assert_eq!(exits("ipip_tx"), Ok(Exits(vec![Exit::IpipTx])));
        assert!(exits("*_silent").is_ok_and(|Exits(found)| found.len() > 2));
        assert!(exits("ipip_txx").is_err_and(|error| error.contains("ipip_tx, ")));
    }

    #[test]
    fn clients_are_addresses_and_prefixes() {
        assert_eq!(clients("203.0.113.7"), clients("203.0.113.7/32"));
        assert_eq!(clients("203.0.113.7/24"), clients("203.0.113.0/24"));
        for wrong in ["203.0.113.7/33", "2001:db8::/129", "host", "203.0.113.7/", "/24"] {
            assert!(clients(wrong).is_err(), "{wrong}");
        }
    }
}
