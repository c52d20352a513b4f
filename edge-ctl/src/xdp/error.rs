//! Errors of loading, attaching or detaching an XDP program, and their remedies.

use std::io;

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, links::LinkError, xdp::XdpError as AyaXdpError},
};
use thiserror::Error;

use super::features::{TooOld, remark};
use crate::{
    bpf::{BpfError, LockError},
    config::AttachMode,
    net::{AttachedXdp, NetError, link_mtu},
};

#[derive(Debug, Error)]
pub(crate) enum XdpError {
    #[error(transparent)]
    Bpf(#[from] BpfError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Kernel(#[from] TooOld),
    #[error("the kernel refuses the embedded object{}", remark())]
    Load(#[source] Box<EbpfError>),
    #[error("the kernel refuses the program {name}{}", remark())]
    Program {
        name: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("the embedded object has no {0}; it was built from other sources than this `edge-ctl`")]
    NotInObject(&'static str),
    #[error("not permitted to {what}\n  do: run it as root, or with CAP_BPF and CAP_NET_ADMIN")]
    NotPermitted { what: &'static str },
    #[error("no interface `{0}`; `ip link` lists those that there are")]
    NoInterface(String),
    #[error("cannot look up the interface {interface}")]
    Interface { interface: String, source: io::Error },
    #[error(
        "another XDP program (number {}) is attached to {interface}, in {} mode{}",
        other.program,
        if other.generic { "generic" } else { "native" },
        detach_first(interface),
    )]
    Occupied { interface: String, other: AttachedXdp },
    #[error("another XDP program is attached to {interface}{}", detach_first(interface))]
    Taken { interface: String },
    #[error(
        "the driver of {interface} refuses XDP in native mode ({source}), and its MTU is {mtu}: most drivers take no \
         program for frames that are larger than a page or than 1,500 bytes{}",
        lower_mtu(interface)
    )]
    LargeMtu { interface: String, mtu: u32, source: io::Error },
    #[error("the driver of {interface} has no native XDP\n  do: {USE_GENERIC}")]
    NoNativeXdp { interface: String },
    #[error(
        "the driver of {interface} refuses XDP in {} mode ({source}): its MTU or its number of queues is too large, \
         or the kernel's log (`dmesg`) has the reason{}",
        mode.name(),
        match mode {
            AttachMode::Native => lower_mtu(interface),
            AttachMode::Generic => String::new(),
        },
    )]
    Unfit { interface: String, mode: AttachMode, source: io::Error },
    #[error(
        "the program is attached to {interface} in {} mode, and a mode can't be changed in place\n  do: edge-ctl decap \
         --interface {interface} --detach, then the same command again; between the two, tunnel packets are not taken",
        attached.name(),
    )]
    OtherMode { interface: String, attached: AttachMode },
    #[error("cannot attach to {interface}")]
    Attach {
        interface: String,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("cannot use the XDP link of {interface}")]
    Link {
        interface: String,
        #[source]
        source: LinkError,
    },
    #[error("the kernel does not run the program on a packet of ours (BPF_PROG_TEST_RUN)")]
    NoTestRun(#[source] io::Error),
    #[error("cannot use the map {name}")]
    Map {
        name: &'static str,
        #[source]
        source: MapError,
    },
    #[error("another `edge-ctl trace` is running: PID {pid}\n  do: wait for its end, or end it: kill {pid}")]
    Traced { pid: u32 },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(
        "the program that is attached is none that can be traced: nothing is attached, or the daemon has just replaced \
         it\n  do: see `edge-ctl status`, and try again"
    )]
    NothingToTrace,
    #[error(
        "the program that was traced has been replaced, or detached\n  do: see `edge-ctl status`, and start the trace again"
    )]
    TraceEnded,
    #[error("another `edge-ctl decap` is at work on {interface}\n  do: run it again when that one is done")]
    Busy { interface: String },
    #[error(
        "the pins are removed, but the program is still on {interface}: another process holds the link open\n  do: find \
         it in the `pids` of `bpftool link show`"
    )]
    StillAttached { interface: String },
    #[error(
        "no decapsulation is attached to {interface}\n  do: edge-ctl decap --interface {interface} --from ADDR --vip ADDR"
    )]
    NotAttached { interface: String },
    #[error(
        "this host has no address that tunnel packets could be sent to\n  do: give it one, or name one that it will have: \
         --to ADDR"
    )]
    NoEndpoint,
}

/// The MTU that each driver with native XDP takes a program for.
const USUAL_MTU: u32 = 1500;

/// The remedy if generic mode helps: the edge program's mode is configured, the decap program's is an option.
const USE_GENERIC: &str = "use generic mode (slower, any driver): mode = \"generic\" in the configuration's \
                           [[interface]], or add --mode generic to `edge-ctl decap`";

fn detach_first(interface: &str) -> String {
    format!(
        "\n  do: find its owner with `bpftool net show dev {interface}` and detach it first; one of edge-ctl \
         under another --pin-dir goes with `edge-ctl detach` there"
    )
}

fn lower_mtu(interface: &str) -> String {
    format!("\n  do: lower the MTU (`ip link set dev {interface} mtu 1500`), or {USE_GENERIC}")
}

impl XdpError {
    /// Maps the kernel's refusal to attach a program.
    pub(super) fn refused(source: ProgramError, interface: &str, mode: AttachMode) -> Self {
        // The interface may have disappeared meanwhile: then the refusal itself is the whole reason.
        Self::refused_at(source, interface, mode, || link_mtu(interface).ok())
    }

    /// As [`Self::refused`]; `mtu` is that of the interface, if it can be read.
    fn refused_at(source: ProgramError, interface: &str, mode: AttachMode, mtu: impl Fn() -> Option<u32>) -> Self {
        let code = match &source {
            ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
            ProgramError::XdpError(AyaXdpError::NetlinkError(error)) => error.raw_os_error(),
            _ => None,
        };
        let interface = interface.to_owned();
        // Drivers report an MTU that is too large by EINVAL, EOPNOTSUPP, ERANGE, ENOMEM and others, and none by all.
        let large_mtu = || mtu().filter(|mtu| mode == AttachMode::Native && *mtu > USUAL_MTU);
        match code {
            Some(libc::EBUSY | libc::EEXIST) => Self::Taken { interface },
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { what: "attach an XDP program" },
            Some(code) if let Some(mtu) = large_mtu() => {
                Self::LargeMtu { interface, mtu, source: io::Error::from_raw_os_error(code) }
            }
            Some(libc::EOPNOTSUPP) if mode == AttachMode::Native => Self::NoNativeXdp { interface },
            Some(code @ (libc::ERANGE | libc::EINVAL | libc::ENOSPC | libc::E2BIG | libc::ENOMEM)) => {
                Self::Unfit { interface, mode, source: io::Error::from_raw_os_error(code) }
            }
            _ => Self::Attach { interface, source: Box::new(source) },
        }
    }

    /// Whether a signal interrupted the verifier.
    pub(super) fn is_interrupted(&self) -> bool {
        let Self::Program { source, .. } = self else { return false };
        let ProgramError::LoadError { io_error, .. } = &**source else { return false };
        matches!(io_error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR))
    }

    /// Maps the kernel's refusal to load the object.
    pub(super) fn not_loaded(source: EbpfError) -> Self {
        match &source {
            EbpfError::MapError(MapError::CreateError { io_error, .. })
                if io_error.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::NotPermitted { what: "make BPF maps" }
            }
            _ => Self::Load(Box::new(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use aya::sys::SyscallError;

    use super::*;

    fn refused(code: i32, mode: AttachMode, mtu: u32) -> String {
        let io_error = io::Error::from_raw_os_error(code);
        let source = ProgramError::SyscallError(SyscallError { call: "bpf_link_create", io_error });
        XdpError::refused_at(source, "eth0", mode, || Some(mtu)).to_string()
    }

    #[test]
    fn a_large_mtu_is_named_whatever_a_driver_reports_it_by() {
        for code in [libc::EINVAL, libc::EOPNOTSUPP, libc::ERANGE, libc::ENOMEM, libc::EFAULT, libc::ENOSPC] {
            let text = refused(code, AttachMode::Native, 9000);
            assert!(text.contains("its MTU is 9000") && text.contains("ip link set dev eth0 mtu 1500"), "{text}");
            let text = refused(code, AttachMode::Native, 1500);
            assert!(!text.contains("its MTU is"), "{text}");
            let text = refused(code, AttachMode::Generic, 9000);
            assert!(!text.contains("its MTU is"), "{text}");
        }
        let none = refused(libc::EOPNOTSUPP, AttachMode::Native, 1500);
        assert!(none.contains("has no native XDP") && none.contains("mode = \"generic\""), "{none}");
        for code in [libc::EBUSY, libc::EPERM] {
            let text = refused(code, AttachMode::Native, 9000);
            assert!(!text.contains("MTU"), "{text}");
        }
    }
}
