//! Probes of a real name server over UDP and TCP: existing and missing names.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::time::Duration;

use edge_tests::lab::{
    dnsmasq::{self, LONG, WWW},
    small::{Mode, Small},
    topology::EDGE,
    wait_until,
};

/// Health of the only backend of pool `name`, and the reason.
fn seen(lab: &Small, name: &str) -> (String, String) {
    let status = lab.edge().unwrap().status(lab.netns(EDGE)).unwrap();
    let pool = status["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == name).unwrap().clone();
    let text = |key: &str| pool["backends"][0][key].as_str().unwrap().to_owned();
    (text("health"), text("reason"))
}

#[test]
fn a_name_server_is_queried_by_udp_and_by_tcp() {
    let mut lab = Small::on_veth().unwrap();
    lab.probe_addresses();
    let dir = tempfile::tempdir().unwrap();
    let _server = dnsmasq::start(lab.netns("be1"), dir.path()).unwrap();
    let long = format!("query = \"long.example.org\", query_type = \"TXT\", answer = \"{}\"", "3".repeat(LONG));
    let cases = [
        ("any", "query = \"www.example.org\"".to_owned(), "up", ""),
        ("a", format!("query = \"www.example.org\", answer = \"{WWW}\""), "up", ""),
        ("aaaa", "query = \"www.example.org.\", query_type = \"AAAA\", answer = \"2001:db8::77\"".to_owned(), "up", ""),
        // Truncated over UDP, and queried again over TCP.
        ("cut", long, "up", ""),
        ("cut-any", "query = \"long.example.org\", query_type = \"TXT\"".to_owned(), "up", ""),
        ("absent", "query = \"no.example.org\", rcode = \"nxdomain\"".to_owned(), "up", ""),
        ("refused", "query = \"www.example.net\", rcode = \"refused\"".to_owned(), "up", ""),
        (
            "other",
            "query = \"www.example.org\", answer = \"192.0.2.78\"".to_owned(),
            "down",
            "DNS answers 192.0.2.77, not 192.0.2.78",
        ),
        (
            "nothing",
            "query = \"www.example.org\", query_type = \"MX\", answer = \"mail\"".to_owned(),
            "down",
            "DNS answers nothing, not mail",
        ),
        ("no-name", "query = \"no.example.org\"".to_owned(), "down", "DNS returned NXDOMAIN, not NOERROR"),
        ("no-word", "query = \"www.example.net\"".to_owned(), "down", "DNS returned REFUSED, not NOERROR"),
        (
            "no-lie",
            "query = \"www.example.org\", rcode = \"nxdomain\"".to_owned(),
            "down",
            "DNS returned NOERROR, not NXDOMAIN",
        ),
    ];
    let pools = ["udp", "tcp"].into_iter().flat_map(|transport| {
        cases.iter().map(move |(name, probe, ..)| {
            format!(
                "\n[[pool]]\nname = \"{transport}-{name}\"\ndamping = \"0s\"\n\
                 backend = [{{ name = \"{name}\", address = \"10.1.1.11\" }}]\n\
                 probe = {{ type = \"dns\", port = 53, transport = \"{transport}\", {probe}, timeout = \"1s\", rise = 1, fall = 1 }}\n"
            )
        })
    });
    lab.prepare(Mode::Native, &pools.collect::<String>()).unwrap();
    lab.start_daemon().unwrap();
    for transport in ["udp", "tcp"] {
        for (name, _, health, reason) in &cases {
            let pool = format!("{transport}-{name}");
            let is_so = || Ok(seen(&lab, &pool).0 == *health && seen(&lab, &pool).1.contains(reason));
            assert!(wait_until(Duration::from_secs(15), is_so).unwrap(), "{pool}: {:?}", seen(&lab, &pool));
        }
    }
}
