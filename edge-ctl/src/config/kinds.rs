//! How backends are probed: times and counts, and what each kind of probe has of its own.

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
    /// From the start of a probe that finds nothing good to the start of the next; at most `interval`.
    pub fast_interval: Duration,
    /// For the whole exchange; at most `interval`.
    pub timeout: Duration,
    /// Passes in a row that make a backend up which was down.
    pub rise: u32,
    /// Failures in a row that make a backend down.
    pub fall: u32,
    /// Each interval is longer or shorter by up to this share of it, 0 to 0.5.
    pub jitter: f64,
}

/// What of a backend a probe asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProbeThrough {
    /// A service, as its clients do: by its mode, at its VIP.
    #[default]
    Service,
    /// Its own address.
    Address,
}

impl Probe {
    /// How long it takes at most from the death of a backend until it is found.
    pub(crate) fn fall_time(&self) -> Duration {
        self.interval.mul_f64(1.0 + self.jitter) * (self.fall + 1) + self.timeout
    }
}

impl Pool {
    /// How a backend of this pool is probed; `own` is the backend, if it has something of its own for that.
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
    /// The backends that have something of their own for their probes, by pool and address.
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
        /// What the first 64 KiB of the answer's body must have.
        body: Option<BodyMatch>,
        /// `Some`: HTTPS.
        tls: Option<TlsProbe>,
    },
    /// Whether a TLS handshake succeeds.
    Tls { tls: TlsProbe },
    /// Whether an ICMP echo request is answered.
    Icmp,
    /// Whether a datagram is answered.
    Udp {
        send: Vec<u8>,
        /// What the answer must have; `None`: anything but the word that nobody listens, silence too. Not empty.
        expect: Option<Vec<u8>>,
    },
    /// Whether a question to a name server is answered.
    Dns(DnsProbe),
    /// Whether a command ends with 0.
    Command {
        /// At least one; the first is an absolute path.
        argv: Vec<String>,
        user: String,
    },
    /// Whether a server's gRPC health is SERVING.
    Grpc {
        /// Whose health; the empty name is the server's own. At most 127 bytes.
        service: String,
        host: Option<String>,
        /// `None`: without TLS.
        tls: Option<TlsProbe>,
    },
}

/// What a body has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyMatch {
    Text(String),
    /// A valid regular expression.
    Regex(String),
}

impl BodyMatch {
    /// As a regular expression.
    pub(crate) fn pattern(&self) -> String {
        match self {
            Self::Text(text) => regex::escape(text),
            Self::Regex(pattern) => pattern.clone(),
        }
    }
}

/// How TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsProbe {
    /// Name that is sent, and that the certificate must have; `None`: that of the Host header, else the backend's address.
    pub server_name: Option<String>,
    /// Whether the certificate is checked.
    pub verify: bool,
    /// Certificates of the authorities that are believed; `None`: this host's.
    pub ca: Option<PathBuf>,
    /// A certificate that is valid for fewer days than this is warned of.
    pub warn_days: u16,
    /// What is offered to be spoken over TLS.
    pub alpn: Vec<String>,
}

/// A question to a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DnsProbe {
    /// A valid name.
    pub name: String,
    /// `A`, `AAAA` and the like.
    pub record: String,
    pub rcode: Rcode,
    /// One of the answers must be this.
    pub answer: Option<String>,
    /// Over TCP and not UDP.
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
    /// Whether the daemon itself sends its packets: such a probe can go through a service.
    pub(crate) const fn is_sent_here(&self) -> bool {
        !matches!(self, Self::Command { .. })
    }

    /// As the file writes it.
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

    /// Whether there is a host that a backend can have its own of, and sets it.
    pub(crate) fn set_host(&mut self, own: &str) -> bool {
        match self {
            Self::Http { host, .. } | Self::Grpc { host, .. } => *host = Some(own.to_owned()),
            Self::Tls { tls } => tls.server_name = Some(own.to_owned()),
            Self::Tcp | Self::Icmp | Self::Udp { .. } | Self::Dns(_) | Self::Command { .. } => return false,
        }
        true
    }
}
