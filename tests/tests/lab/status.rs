//! What `status` and `flows` show while flows are at backends that new ones would not use: with a daemon and without,
//! for a real connection through the real program.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use edge_tests::lab::{
    Lab,
    topology::{Backend, EDGE, Service},
    wait_until,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const SERVICE: &str = "web-4in4";

/// Reconcile passes over services in transition are a second apart, and finishing one takes two or three.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_drained_backend_and_its_running_flow() {
    let mut lab = Lab::with_edge();
    wait_for(&lab, "the service to be stable", |status| service(status)["transition"].is_null());
    assert_eq!(flows(&lab, &[]), (0, Vec::new()));
    assert!(lab.ctl(&["flows"]).unwrap().starts_with("no flow is recorded"));

    let mut connection = Connection::open(&lab);
    let home = connection.request();
    let backend = format!("{}/{home}", Service::named(SERVICE).pools()[0]);
    assert_eq!(flows(&lab, &[]), (0, Vec::new()), "nothing changes: it goes to its slot's owner");
    lab.ctl(&["drain", &backend]).unwrap();
    assert_eq!(connection.request(), home, "a running flow stays");

    let (records, listed) = flows(&lab, &["--service", SERVICE]);
    assert_eq!(records, 1, "{listed:?}");
    let flow = &listed[0];
    let address = connection.0.local_addr().unwrap();
    let text = |key: &str| flow[key].as_str().unwrap_or_default().to_owned();
    assert_eq!((text("client"), flow["client_port"].as_u64()), (address.ip().to_string(), Some(address.port().into())));
    assert_eq!(
        (text("service"), text("backend"), flow["retired"].as_bool()),
        (SERVICE.to_owned(), backend.clone(), Some(false))
    );
    assert!(flow["age_seconds"].as_u64() < Some(5) && flow["silent_seconds"].as_u64() < Some(5), "{flow}");
    assert_eq!(flows(&lab, &["--service", "web-dsr4"]), (0, Vec::new()));
    assert_eq!(flows(&lab, &["--limit", "0"]), (1, Vec::new()));
    let shown = lab.ctl(&["flows"]).unwrap();
    assert!(shown.contains(&address.to_string()) && shown.ends_with("\n1 flow\n"), "{shown}");

    let text = wait_for(&lab, "a look at its slots and its record", |status| {
        let transition = &service(status)["transition"];
        transition["slots_differing"].as_u64() > Some(0) && transition["records"].as_u64() == Some(1)
    });
    let transition = &service(&text)["transition"];
    assert!(transition["why"].as_str().unwrap_or_default().contains("drained"), "{transition}");
    let [next, last] = ["next_handover_seconds", "last_handover_seconds"].map(|key| transition[key].as_f64().unwrap());
    assert!(0.0 < next && next <= last && last <= 301.0, "slots are handed over after five minutes: {transition}");
    assert_eq!(service(&text)["flows"]["recorded_at_owner"], 1);
    let shown = lab.ctl(&["status"]).unwrap();
    assert!(shown.contains("TRANSITION") && shown.contains("recorded_at_owner 1"), "{shown}");

    lab.kill_daemon().unwrap();
    let alone = lab.status().unwrap();
    let without = &service(&alone)["transition"];
    for key in ["since", "why", "slots_differing", "records"] {
        // Times are computed from two clocks, and may differ by a millisecond.
        let same = if key == "since" { without[key].is_u64() } else { without[key] == transition[key] };
        assert!(same, "{key}: {without}, before {transition}");
    }
    assert!(without["next_handover_seconds"].is_null(), "no daemon, no handover: {without}");
    assert_eq!(flows(&lab, &[]).0, 1);

    lab.start_daemon().unwrap();
    lab.ctl(&["enable", &backend]).unwrap();
    wait_for(&lab, "the service to be stable", |status| service(status)["transition"].is_null());
    assert_eq!(flows(&lab, &[]), (0, Vec::new()));
    assert_eq!(connection.request(), home);
}

#[test]
fn a_removed_backend_is_retired_until_nothing_names_it() {
    let lab = Lab::with_edge();
    wait_for(&lab, "the service to be stable", |status| service(status)["transition"].is_null());
    let mut connection = Connection::open(&lab);
    let home = connection.request();
    let backend = format!("{}/{home}", Service::named(SERVICE).pools()[0]);
    let path = lab.edge().configuration();
    let whole = std::fs::read_to_string(&path).unwrap();
    let Service { part, via, .. } = Service::named(SERVICE);
    let address = Backend::named(&home).unwrap().address(part, via);
    let section = format!("[[pool.backend]]\nname = \"{home}\"\naddress = \"{address}\"\n");
    assert_eq!(whole.matches(&section).count(), 1);

    std::fs::write(&path, whole.replace(&section, "")).unwrap();
    lab.ctl(&["reload"]).unwrap();
    assert_eq!(connection.request(), home, "an established flow stays with a retired backend");
    let text = wait_for(&lab, "a look at what it still owns", |status| {
        status["retired"][0]["slots"].as_u64() > Some(0) && status["retired"][0]["records"].as_u64() == Some(1)
    });
    assert_eq!(text["retired"][0]["name"], backend.as_str(), "{text}");
    assert_eq!(text["retired"][0]["address"], address.to_string().as_str());
    let shown = lab.ctl(&["status"]).unwrap();
    assert!(shown.contains("RETIRED") && shown.contains(&backend), "{shown}");
    let (_, listed) = flows(&lab, &["--service", SERVICE]);
    assert_eq!((listed[0]["backend"].as_str(), listed[0]["retired"].as_bool()), (Some(backend.as_str()), Some(true)));
    assert!(lab.ctl(&["flows"]).unwrap().contains(&format!("{backend} (retired)")));

    std::fs::write(&path, whole).unwrap();
    lab.edge().signal(Signal::SIGHUP).unwrap();
    wait_for(&lab, "it to be back, and the service to be stable", |status| {
        status["retired"].as_array().is_some_and(Vec::is_empty) && service(status)["transition"].is_null()
    });
    assert_eq!(flows(&lab, &[]), (0, Vec::new()));
    assert_eq!(connection.request(), home);
}

#[test]
fn a_service_that_is_not_there_is_4_and_the_nearest_is_named() {
    let lab = Lab::with_edge();
    let output = lab.edge().output(lab.netns(EDGE), &["flows", "--service", "web-dsr5"]).unwrap();
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("no service \"web-dsr5\"; did you mean \"web-dsr4\"?"), "{stderr}");
}

/// A kept HTTP connection from a client to [`SERVICE`].
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) fn open(lab: &Lab) -> Self {
        let to = Service::named(SERVICE).address();
        let stream = lab.netns("client1").within(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)));
        let stream = stream.expect("the namespace is there").expect("the service is served");
        stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out can be set");
        Self(stream)
    }

    /// The backend that answers a request.
    pub(crate) fn request(&mut self) -> String {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").expect("the connection lives");
        let (mut answer, mut piece) = (String::new(), [0; 1024]);
        loop {
            let length = self.0.read(&mut piece).expect("an answer");
            assert_ne!(length, 0, "the connection was closed: {answer}");
            answer.push_str(std::str::from_utf8(&piece[..length]).expect("text"));
            match answer.split_once("\r\n\r\n") {
                Some((_, body)) if body.ends_with('\n') => return body.trim().to_owned(),
                _ => {}
            }
        }
    }
}

/// `edge-ctl flows --json ARGS`: the number of flows, and the listed ones.
fn flows(lab: &Lab, args: &[&str]) -> (u64, Vec<Value>) {
    let shown = lab.ctl(&[&["flows", "--json"], args].concat()).expect("the maps are there");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let listed = shown["flows"].as_array().expect("a list").clone();
    (shown["records"].as_u64().expect("a number"), listed)
}

fn service(status: &Value) -> &Value {
    let services = status["services"].as_array().expect("a list");
    services.iter().find(|service| service["name"] == SERVICE).expect("the lab has it")
}

/// The first status for which `condition` holds.
fn wait_for(lab: &Lab, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let reached = wait_until(SOON, || {
        last = lab.status()?;
        Ok(condition(&last))
    });
    assert!(reached.expect("the daemon answers"), "waited for {what}: {:#}", service(&last));
    last
}
