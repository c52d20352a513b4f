//! How backends are probed: times and counts, and the settings of each kind of probe.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use super::{Backend, Config, Pool};

/// How the backends of a pool are probed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probe {
    pub kind: ProbeKind,
    pub through: ProbeThrough,
    pub port: u16,
    /// From the start of a probe to the start of the next.
    pub interval: Duration,
    /// From the start of a probe that does not pass to the start of the next; at most `interval`.
    pub fast_interval: Duration,
    /// For the whole exchange; at most `interval`.
    pub timeout: Duration,
    /// Consecutive passes after which a backend that was down is up.
    pub rise: u32,
    /// Consecutive failures after which a backend is down.
    pub fall: u32,
    /// Each interval is longer or shorter by up to this share of it, 0 to 0.5.
    pub jitter: f64,
}

/// Destination of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProbeThrough {
    /// The backend's service, as for its clients: forwarded by the service's mode, at its VIP.
    #[default]
    Service,
    /// The backend's own address.
    Address,
}

impl Probe {
    /// Longest time from the death of a backend until it is detected.
    pub(crate) fn fall_time(&self) -> Duration {
        self.interval.mul_f64(1.0 + self.jitter) * (self.fall + 1) + self.timeout
    }
}

impl Pool {
    /// The probe of a backend of this pool; `own` is the backend, if it has probe settings of its own.
    pub(crate) fn probe_of(&self, own: Option<&Backend>) -> Option<Probe> {
        let mut probe = self.probe.clone()?;
        if let Some(own) = own {
            probe.port = own.probe_port.unwrap_or(probe.port);
            own.probe_host.as_ref().map(|host| probe.kind.set_host(host));
        }
        Some(probe)
    }
}

impl Config {
    /// The backends that have probe settings of their own, by pool and address.
    pub(crate) fn own_probes(&self) -> BTreeMap<(&str, IpAddr), &Backend> {
        let has_own = |backend: &Backend| backend.probe_port.is_some() || backend.probe_host.is_some();
        let all = self.pools.iter().flat_map(|pool| pool.backends.iter().map(|backend| (pool.name.as_str(), backend)));
        all.filter(|(_, backend)| has_own(backend)).map(|(pool, backend)| ((pool, backend.address), backend)).collect()
    }
}

/// The kind of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// Whether a TCP connection is accepted.
    Tcp,
    /// Whether a GET is answered with one of the statuses.
    Http {
        /// Path and query, as `/healthz?full=1`.
        path: String,
        /// At least one, each 200 to 599.
        status: Vec<u16>,
        /// Host header; `None`: the backend's address.
        host: Option<String>,
        /// Condition that the first 64 KiB of the answer's body must meet.
        body: Option<BodyMatch>,
        /// `Some` for HTTPS.
        tls: Option<TlsProbe>,
    },
    /// Whether a TLS handshake succeeds.
    Tls { tls: TlsProbe },
    /// Whether an ICMP echo request is answered.
    Icmp,
    /// Whether a datagram is answered.
    Udp {
        send: Vec<u8>,
        /// Bytes that the answer must contain, not empty. With `None` any answer passes and so does silence, but not an
        /// error that the port is closed.
        expect: Option<Vec<u8>>,
    },
    /// Whether a DNS query is answered.
    Dns(DnsProbe),
    /// Whether a command exits with status 0.
    Command {
        /// At least one; the first is an absolute path.
        argv: Vec<String>,
        user: String,
    },
    /// Whether a server's gRPC health is SERVING.
    Grpc {
        /// Name of the gRPC service whose health is queried; empty for the server as a whole. At most 127 bytes.
        service: String,
        host: Option<String>,
        /// `None` without TLS.
        tls: Option<TlsProbe>,
    },
}

/// Condition on the body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyMatch {
    Text(String),
    /// A valid regular expression.
    Regex(String),
}

impl BodyMatch {
    /// The condition as a regular expression.
    pub(crate) fn pattern(&self) -> String {
        match self {
            Self::Text(text) => regex::escape(text),
            Self::Regex(pattern) => pattern.clone(),
        }
    }
}

/// TLS settings of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsProbe {
    /// Server name that is sent, and that the certificate must have; `None` for the name of the Host header, or else
    /// the backend's address.
    pub server_name: Option<String>,
    /// Whether the certificate is checked.
    pub verify: bool,
    /// File of trusted CA certificates; `None` for those of this host.
    pub ca: Option<PathBuf>,
    /// A certificate that is valid for fewer days than this causes a warning.
    pub warn_days: u16,
    /// Protocols offered by ALPN.
    pub alpn: Vec<String>,
}

/// A DNS query and the expected answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DnsProbe {
    /// A valid name.
    pub name: String,
    /// `A`, `AAAA` and the like.
    pub record: String,
    pub rcode: Rcode,
    /// Value that one of the answers must have.
    pub answer: Option<String>,
    /// Whether the query goes over TCP instead of UDP.
    pub tcp: bool,
}

/// A response code of DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rcode(pub u16);

/// Response codes that can be expected.
pub(crate) const RCODES: [(&str, Rcode); 6] = [
    ("noerror", Rcode(0)),
    ("formerr", Rcode(1)),
    ("servfail", Rcode(2)),
    ("nxdomain", Rcode(3)),
    ("notimp", Rcode(4)),
    ("refused", Rcode(5)),
];

impl ProbeKind {
    /// Whether the daemon itself sends the packets of the probe, so that the probe can go through a service.
    pub(crate) const fn is_sent_here(&self) -> bool {
        !matches!(self, Self::Command { .. })
    }

    /// Name of the kind in the file.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http { tls: None, .. } => "http",
            Self::Http { tls: Some(_), .. } => "https",
            Self::Tls { .. } => "tls",
            Self::Icmp => "icmp",
            Self::Udp { .. } => "udp",
            Self::Dns(_) => "dns",
            Self::Command { .. } => "command",
            Self::Grpc { .. } => "grpc",
        }
    }

    pub(crate) const fn tls(&self) -> Option<&TlsProbe> {
        match self {
            Self::Http { tls, .. } | Self::Grpc { tls, .. } => tls.as_ref(),
            Self::Tls { tls } => Some(tls),
            Self::Tcp | Self::Icmp | Self::Udp { .. } | Self::Dns(_) | Self::Command { .. } => None,
        }
    }

    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Http { host, .. } | Self::Grpc { host, .. } => host.as_deref(),
            Self::Tls { .. } | Self::Tcp | Self::Icmp | Self::Udp { .. } | Self::Dns(_) | Self::Command { .. } => None,
        }
    }

    pub(crate) const fn body(&self) -> Option<&BodyMatch> {
        match self {
            Self::Http { body, .. } => body.as_ref(),
            Self::Tls { .. }
            | Self::Grpc { .. }
            | Self::Tcp
            | Self::Icmp
            | Self::Udp { .. }
            | Self::Dns(_)
            | Self::Command { .. } => None,
        }
    }

    /// Sets the host to a backend's own; false if this kind of probe has none.
    pub(crate) fn set_host(&mut self, own: &str) -> bool {
        match self {
            Self::Http { host, .. } | Self::Grpc { host, .. } => *host = Some(own.to_owned()),
            Self::Tls { tls } => tls.server_name = Some(own.to_owned()),
            Self::Tcp | Self::Icmp | Self::Udp { .. } | Self::Dns(_) | Self::Command { .. } => return false,
        }
        true
    }
}
