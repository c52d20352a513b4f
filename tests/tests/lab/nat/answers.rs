//! Answers of backends that arrive by an interface without a program.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use edge_tests::lab::{patience::patience, small::CLIENT, wait_until};

use super::{BACKENDS, Nat, PORT, VIPS, configuration};

#[test]
fn an_interface_by_which_answers_arrive_without_a_program_is_named() {
    let mut nat = Nat::without_balancer();
    let complete = configuration("");
    let lacking = complete.replace("[[interface]]\nname = \"eth1\"\n", "");
    assert_ne!(lacking, complete);
    nat.balance(&lacking);
    let status = || nat.lab.ctl(&["status"]).expect("a status");
    let is_named = || status().contains("interface eth1: backends of services in `nat` are reached by it (10.1.1.11)");
    assert!(wait_until(patience(Duration::from_secs(5)), || Ok(is_named())).expect("a status"), "{}", status());
    assert!(!status().contains("interface eth2"), "{}", status());
    // It is so: the backend answers, and the host takes the answers for its own.
    let connect = || -> io::Result<TcpStream> {
        let vip = SocketAddr::new(VIPS[0].parse().expect("an address"), PORT);
        nat.lab.netns(CLIENT).within(|| TcpStream::connect_timeout(&vip, Duration::from_secs(2))).expect("a namespace")
    };
    assert!(connect().is_err());

    let path = nat.lab.edge().expect("a load balancer").configuration();
    fs::write(&path, complete).expect("it can be written");
    nat.lab.ctl(&["reload"]).expect("it is complete");
    assert!(wait_until(patience(Duration::from_secs(20)), || Ok(!is_named())).expect("a status"), "{}", status());
    assert_eq!(nat.request(VIPS[0], 4), [BACKENDS[0].to_owned()].into());
}
