//! Faults of this host are inconclusive: they are no evidence against a backend.

use std::io;

use super::*;
use crate::probe::{
    classify::{Stage, classify},
    prober::timed_out,
};

/// Runs `future` on a separate thread, so that `prepare` affects no other test.
fn apart<T: Send + 'static>(prepare: fn() -> bool, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        prepare().then(|| runtime.block_on(future))
    });
    thread.join().expect("no panic")
}

#[test]
fn no_route_of_our_own_is_inconclusive() {
    // A new network namespace has no routes at all.
    let enter = || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok();
    for address in
        [(Ipv4Addr::new(192, 0, 2, 1), 80).into(), ("2001:db8::1".parse::<Ipv6Addr>().expect("valid"), 80).into()]
    {
        let target: ProbeTarget = target(address, ProbeKind::Tcp);
        match apart(enter, async move { once(&target).await }) {
            // IPv6 fails for lack of a source address before it fails for lack of a route.
            Some(verdict) => assert!(matches!(verdict, Verdict::Inconclusive(_)), "{verdict:?}"),
            None => eprintln!("skipped: only root can make a network namespace"),
        }
    }
}

#[test]
fn no_file_descriptor_is_inconclusive() {
    // The limit applies to the whole process, so a separate process runs out of descriptors.
    let child = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this test's path"))
        .args(["--exact", "--ignored", "--test-threads=1", "probe::tests::local_faults::without_file_descriptors"])
        .output()
        .expect("starts");
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
}

#[test]
#[ignore = "takes this process's file descriptors: no_file_descriptor_is_inconclusive runs it apart"]
fn without_file_descriptors() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let held: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(!held.is_empty());
    // Nor is an interface absent.
    assert!(crate::net::index_of("lo").is_err() && crate::net::name_of(1).is_err());
    for kind in [ProbeKind::Tcp, http()] {
        let target = target((Ipv4Addr::LOCALHOST, 80).into(), kind);
        let verdict = runtime.block_on(once(&target));
        assert_eq!(verdict, Verdict::Inconclusive("too many open files in this process".to_owned()));
    }
}

#[test]
fn errors_are_classified_by_their_origin() {
    use Stage::{Local, Network};
    let letter = |code, stage| match classify(&io::Error::from_raw_os_error(code), stage) {
        Verdict::Fail(_) => 'f',
        Verdict::Unreachable(_) => 'n',
        Verdict::Silent(_) => 's',
        Verdict::Inconclusive(_) => 'i',
        Verdict::Pass => panic!("an error passed"),
    };
    for code in [libc::ECONNREFUSED, libc::ECONNRESET, libc::ECONNABORTED, libc::EPIPE, libc::ENOPROTOOPT, libc::EPROTO]
    {
        assert_eq!([letter(code, Local), letter(code, Network)], ['f'; 2], "{code}");
    }
    assert_eq!([letter(libc::ETIMEDOUT, Local), letter(libc::ETIMEDOUT, Network)], ['s'; 2]);
    for code in [libc::EHOSTUNREACH, libc::EHOSTDOWN, libc::ENONET] {
        assert_eq!([letter(code, Local), letter(code, Network)], ['n'; 2], "{code}");
    }
    for code in [libc::ENETUNREACH, libc::EACCES] {
        assert_eq!([letter(code, Local), letter(code, Network)], ['i', 'n'], "{code}");
    }
    for code in [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::ENOBUFS,
        libc::EADDRNOTAVAIL,
        libc::EADDRINUSE,
        libc::EAGAIN,
        libc::EPERM,
        libc::ENETDOWN,
        libc::ENODEV,
        libc::EAFNOSUPPORT,
        libc::EINVAL,
        libc::EIO,
        4095,
    ] {
        assert_eq!([letter(code, Local), letter(code, Network)], ['i'; 2], "{code}");
    }
}

#[test]
fn a_standstill_of_this_host_is_inconclusive() {
    let ms = Duration::from_millis;
    assert_eq!(timed_out(ms(200), ms(201)), silent("no answer within 200ms"));
    assert_eq!(timed_out(ms(200), ms(400)), silent("no answer within 200ms"));
    assert_eq!(timed_out(ms(200), ms(1200)), Verdict::Inconclusive("this host was late by 1000 ms".to_owned()));
    assert_eq!(timed_out(ms(10), ms(100)), silent("no answer within 10ms"));
}
