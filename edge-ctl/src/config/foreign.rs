//! Words from the configuration of `HAProxy`, keepalived, nginx, Envoy and IPVS: their equivalent, or why there is
//! none.
//!
//! A refused key or word is looked up here before it is compared with the known ones. Each answer is what to write
//! instead.

const PROBE: &str =
    "[pool.probe] below the [[pool]], with type = \"http\" or another kind: it probes all backends of the pool";
const BACKEND: &str = "[[pool.backend]] below its [[pool]], with `name` and `address`; its port is that of the [[service]], and only with \
     mode = \"nat\" a `port` of its own";
const POOL: &str = "[[pool]] with its [[pool.backend]]s, and its name in `pools` of the [[service]]";
const SERVICE: &str = "[[service]], with `vips`, `ports` and the `pools` that serve it";
const LISTEN: &str = "a [[service]]: clients connect to its own address and port, and backends listen at the same, or with mode = \"nat\" \
                      at their own";
const STANDBY: &str = "a [[pool]] of standby backends, last in `pools` of the [[service]]";
const PRIORITY: &str =
    "the order of `pools` in the [[service]], which is the priority; edges have none, and all of them serve";
const FULL: &str =
    "remove it: connections are not limited; `weight` gives a backend its share, and a full one should fail its probes";
const SPREAD: &str = "remove it: flows are always spread by a hash, by the `weight` of each backend; affinity = \"source\" in the \
                      [[service]] keeps a client at one backend";
const STICKY: &str = "affinity = \"source\" in the [[service]], and `affinity_prefix_v4` or `affinity_prefix_v6` for whole networks; there are no cookies, \
                      since HTTP is not looked into";
const STICKY_VALUE: &str = "affinity = \"source\", which keeps a client's address at one backend";
const VRRP: &str = "remove it: all edges with the same `hash_key` serve at the same time; where keepalived moves a VIP, leave \
                    announce = \"none\", and `virtual_macs` under [[interface]] if it uses a MAC address of its own";
const ROUTING: &str = "announce = \"none\", and a routing daemon beside this one, such as BIRD or FRR, that announces the VIP; \
                       announce = \"l2\" announces it on its own network";
const TLS: &str = "remove it: TLS goes through to the backends, which have the certificates; type = \"https\" or type = \"tls\" under \
                   [pool.probe] probes by TLS";
const SNI: &str = "`server_name` under [pool.probe], with type = \"https\" or type = \"tls\"; the name that clients send in TLS goes through \
                   to the backends and chooses none";
const CLIENT_ADDRESS: &str = "remove it: with mode = \"ipip\", \"gue\" and \"dsr\" backends see the client's own address; with mode = \"nat\" they see a source \
     address of [nat], and client_address = \"toa\" in the [[service]] tells them the client's by an option of TCP";
const TIMES: &str =
    "`flow_idle_timeout` in the [[service]] (how long a silent flow keeps its record), or `timeout` under [pool.probe]";
const RETRIES: &str = "`fall` under [pool.probe] (failed probes in a row that take a backend out); lost packets are sent again by \
                       client and backend";
const DRAIN: &str =
    "the command `edge-ctl drain POOL/BACKEND`: no new flows, established ones stay; `edge-ctl enable` undoes it";
const DISABLE: &str =
    "the command `edge-ctl disable POOL/BACKEND`: out of service at once; `edge-ctl enable` undoes it";
const FORWARDING: &str = "mode = \"nat\" (any backend, anywhere: addresses and ports are translated both ways), mode = \"ipip\" or mode = \"dsr\" \
                          (answers go to the client without the edge)";
const NAT: &str = "mode = \"nat\": addresses and ports are translated both ways";
const NOT_PROXIED: &str = "mode = \"nat\" (any backend, anywhere), mode = \"ipip\" or mode = \"dsr\": packets of TCP and UDP are \
                           forwarded as they are; the protocol is written with the port";
const ENDS: &str = "remove it: connections and requests go through to the backends, which settle this with the client";
const FILTER: &str = "remove it: packets are not filtered and rates not limited by client; a firewall before this host, or at the backends, \
                      does that";
const STATE: &str = "remove it: each backend is in service; the command `edge-ctl drain POOL/BACKEND` or `edge-ctl disable POOL/BACKEND` \
                     takes one out, and `edge-ctl enable` undoes it";
const OWN_PROGRAM: &str = "type = \"tcp\", or type = \"command\" with a program of yours that speaks it";

/// Keys of other systems, in lower case and with `_` for `-`, and the answers.
const KEYS: [(&[&str], &str); 43] = [
    (&["check", "checks", "checker", "health_check", "health_checks", "healthcheck", "health", "monitor"], PROBE),
    (&["tcp_check"], "[pool.probe] below the [[pool]], with type = \"tcp\""),
    (
        &["http_get", "httpchk", "http_check"],
        "[pool.probe] below the [[pool]], with type = \"http\", `path` and `status`",
    ),
    (&["ssl_get"], "[pool.probe] below the [[pool]], with type = \"https\", `path` and `status`"),
    (&["misc_check", "external_check"], "[pool.probe] below the [[pool]], with type = \"command\""),
    (&["inter", "delay_loop"], "`interval` under [pool.probe]"),
    (&["fastinter", "downinter"], "`fast_interval` under [pool.probe], until it is clear that a backend is down"),
    (&["retry", "retries", "nb_get_retry", "max_fails", "num_retries", "unhealthy_threshold"], RETRIES),
    (&["healthy_threshold"], "`rise` under [pool.probe]"),
    (&["backup", "role", "sorry_server", "fallback"], STANDBY),
    (&["priority"], PRIORITY),
    (&["quorum"], "`min_healthy` in the [[pool]]"),
    (&["panic_threshold", "healthy_panic_threshold"], "`panic_below` in the [[pool]], a share from 0 to 1"),
    (&["maxconn", "max_conns", "max_connections", "uthreshold", "lthreshold", "circuit_breakers"], FULL),
    (&["sni", "check_sni", "server_hostname"], SNI),
    (&["bgp", "ospf", "asn", "router_id", "neighbor", "neighbors"], ROUTING),
    (&["balance", "lb_algo", "lvs_sched", "sched", "scheduler", "algorithm", "lb_policy", "least_conn"], SPREAD),
    (&["persistence", "persistence_timeout", "stick", "stick_table", "sticky", "cookie", "session_affinity"], STICKY),
    (&["hash", "schedule"], SPREAD),
    (&["http2", "keepalive", "compression", "websocket"], ENDS),
    (&["acl", "allow", "deny", "rate_limit", "whitelist", "blacklist"], FILTER),
    (&["enabled", "state"], STATE),
    (&["description", "comment"], "a comment: the rest of a line after #"),
    (&["ip", "ip_address"], "`address` in the [[pool.backend]], `vips` in the [[service]]"),
    (
        &["fail_timeout"],
        "`interval` and `rise` under [pool.probe]: a backend that is down is probed on, and comes back by itself",
    ),
    (
        &["uri", "url", "request"],
        "`path` under [pool.probe], and `host` for the name; with type = \"http\" or type = \"https\"",
    ),
    (
        &["method", "headers"],
        "remove it: probes send GET, with the `host` under [pool.probe] and no other headers of yours",
    ),
    (&["insecure", "skip_verify"], "`verify` under [pool.probe], which is true or false"),
    (&["global"], "the keys below at the top of the file, before all headings"),
    (&["metrics", "stats"], "[http] with `listen`, which serves metrics and a status page"),
    (&["ip_hash"], "affinity = \"source\" in the [[service]]"),
    (
        &["persistence_granularity"],
        "`affinity_prefix_v4` or `affinity_prefix_v6` in the [[service]], with affinity = \"source\"",
    ),
    (&["virtual_router_id", "vrid", "vrrp", "vrrp_instance", "virtual_ipaddress", "advert_int", "nopreempt"], VRRP),
    (&["real_server", "server", "servers", "endpoint", "endpoints", "member", "members", "node", "nodes"], BACKEND),
    (&["upstream", "upstreams", "target_group", "cluster", "clusters", "farm"], POOL),
    (&["virtual_server", "frontend", "listener", "listeners"], SERVICE),
    (&["bind", "listen", "virtual_ip"], LISTEN),
    (
        &[
            "timeout",
            "timeouts",
            "timeout_client",
            "timeout_server",
            "timeout_connect",
            "client_timeout",
            "server_timeout",
            "connect_timeout",
            "idle_timeout",
        ],
        TIMES,
    ),
    (
        &[
            "proxy_protocol",
            "send_proxy",
            "send_proxy_v2",
            "send_proxy_v2_ssl",
            "accept_proxy",
            "forwardfor",
            "x_forwarded_for",
        ],
        CLIENT_ADDRESS,
    ),
    (&["ssl", "tls", "crt", "cert", "certificate", "ssl_certificate", "alpn"], TLS),
    (&["lb_kind", "lvs_method", "forward_method"], FORWARDING),
    (&["drain", "draining"], DRAIN),
    (&["disabled", "down", "maintenance"], DISABLE),
];

/// Keys of this configuration, values that other systems have for them, and the answers.
const VALUES: [(&str, &[&str], &str); 23] = [
    (
        "weight",
        &["0"],
        "the command `edge-ctl drain POOL/BACKEND` for no new flows; a `weight` from 1 is its share otherwise",
    ),
    ("mode", &["masq", "masquerade", "fullnat", "full_nat", "snat", "dnat", "proxy"], NAT),
    ("mode", &["tcp", "udp", "http", "https", "l4", "l7"], NOT_PROXIED),
    (
        "mode",
        &["tun", "tunnel", "ip_tun", "ipip6", "ip6ip6", "sit"],
        "mode = \"ipip\" (or \"gue\", in UDP), in any combination of IPv4 and IPv6",
    ),
    (
        "mode",
        &["fou", "udp_encap", "gue_direct"],
        "mode = \"gue\": IP in UDP, in the variant of `gue_variant` under [tunnel]",
    ),
    ("mode", &["gre", "vxlan", "geneve"], "mode = \"ipip\" or mode = \"gue\", which are the tunnels that there are"),
    ("mode", &["dr", "direct", "gatewaying", "gateway", "route", "routing"], "mode = \"dsr\""),
    ("mode", &["skb", "xdpgeneric"], "mode = \"generic\""),
    ("mode", &["drv", "driver", "xdpdrv"], "mode = \"native\""),
    ("type", &["ssl", "starttls"], "type = \"tls\" for a handshake, or type = \"https\" for HTTP over TLS"),
    (
        "type",
        &["http2", "h2", "ssl_get", "httpsget", "https_get"],
        "type = \"https\", which speaks HTTP/2 and HTTP/1.1",
    ),
    ("type", &["http3", "h3", "quic"], "type = \"https\", of the same server: no probe speaks QUIC"),
    ("type", &["http_get", "httpchk", "http_check", "httpget"], "type = \"http\", or type = \"https\""),
    ("type", &["tcp_check", "connect", "tcpsocket"], "type = \"tcp\""),
    ("type", &["ping", "ping_check", "echo"], "type = \"icmp\""),
    ("type", &["misc_check", "script", "exec", "external", "external_check"], "type = \"command\""),
    ("type", &["none", "off"], "`probe` as false in the [[pool]], in place of [pool.probe]"),
    ("type", &["dns_check"], "type = \"dns\""),
    ("type", &["udp_check"], "type = \"udp\""),
    (
        "type",
        &["mysql", "mysql_check", "pgsql", "pgsql_check", "redis", "smtp", "smtp_check", "ldap", "imap"],
        OWN_PROGRAM,
    ),
    (
        "affinity",
        &["client", "client_ip", "clientip", "ip", "ip_hash", "src", "source_ip", "sh", "cookie"],
        STICKY_VALUE,
    ),
    ("announce", &["bgp", "ospf", "route"], ROUTING),
    ("announce", &["arp", "garp", "ndp", "vrrp"], "announce = \"l2\", which announces by ARP and neighbour discovery"),
];

/// What to write instead of `key` of another system.
pub(super) fn key(key: &str) -> Option<&'static str> {
    let key = plain(key)?;
    KEYS.iter().find(|(words, _)| words.contains(&key.as_str())).map(|(_, answer)| *answer)
}

/// What to write instead of `key = word`.
pub(super) fn value(key: &str, word: &str) -> Option<&'static str> {
    let word = plain(word)?;
    VALUES.iter().find(|(known, words, _)| *known == key && words.contains(&word.as_str())).map(|(.., answer)| *answer)
}

/// `word` in the spelling of the tables; `None` if it is longer than all of their words.
fn plain(word: &str) -> Option<String> {
    (word.len() <= 32).then(|| word.to_lowercase().replace(['-', ' '], "_"))
}

#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.into_iter().flat_map(|(words, answer)| words.iter().map(move |word| (*word, answer)))
}

#[cfg(test)]
pub(super) fn values() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    VALUES.into_iter().flat_map(|(key, words, answer)| words.iter().map(move |word| (key, *word, answer)))
}
