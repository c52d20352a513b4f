//! Two network namespaces joined by a veth, for tests. They disappear with the thread, even if the test panics.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd},
    process::Command,
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A lab. The calling thread is in the namespace of an edge, whose `edge0` (`10.0.0.1/24`, `fd00::1/64`,
/// `02:00:00:00:00:01`) is joined to `peer0` (the same with 2 for 1) in another namespace.
pub(crate) struct Lab {
    peer: File,
}

/// Runs `test` in a [`Lab`], in a thread of its own. Without root it prints a notice and passes.
pub(crate) fn in_lab(test: impl FnOnce(&Lab) + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let result = thread::scope(|scope| scope.spawn(|| test(&Lab::new())).join());
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

impl Lab {
    fn new() -> Self {
        let peer = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("the namespace of this thread")
        });
        let peer = peer.join().expect("the peer's namespace");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let lab = Self { peer };
        // Duplicate address detection would delay link-local addresses, and so neighbour discovery, by 2 s.
        let no_dad = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad && ip link set lo up";
        sh(no_dad);
        lab.peer(no_dad);
        sh(&format!(
            "ip link add edge0 address 02:00:00:00:00:01 type veth peer name peer0 address 02:00:00:00:00:02 netns {}",
            lab.peer_path()
        ));
        sh("ip link set edge0 up && ip address add 10.0.0.1/24 dev edge0 && ip address add fd00::1/64 dev edge0 nodad");
        lab.peer("ip link set peer0 up");
        lab.peer("ip address add 10.0.0.2/24 dev peer0 && ip address add fd00::2/64 dev peer0 nodad");
        lab.wait_until_up();
        lab
    }

    /// Waits until the link is up. The kernel may take up to a second after the carrier is there.
    pub(crate) fn wait_until_up(&self) {
        let wait = |link: &str| format!("until ip link show {link} | grep -q \"state UP\"; do sleep 0.01; done");
        sh(&wait("edge0"));
        self.peer(&wait("peer0"));
    }

    fn peer_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.peer.as_raw_fd())
    }

    /// Runs a shell command in the peer's namespace.
    pub(crate) fn peer(&self, command: &str) {
        sh(&format!("nsenter --net={} sh -c '{command}'", self.peer_path()));
    }

    /// Runs `work` in a thread in the peer's namespace.
    pub(crate) fn in_peer<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = self.peer.try_clone().expect("a copy of the descriptor");
        thread::spawn(move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).expect("the peer's namespace");
            work()
        })
    }
}

/// Runs a shell command in the namespace of this thread.
pub(crate) fn sh(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().expect("a shell");
    assert!(output.status.success(), "`{command}`: {}", String::from_utf8_lossy(&output.stderr));
}
