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
    bpf::BpfError,
    config::AttachMode,
    net::{AttachedXdp, NetError},
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
    #[error("the driver of {interface} has no native XDP\n  do: {USE_GENERIC}")]
    NoNativeXdp { interface: String },
    #[error(
        "the driver of {interface} refuses XDP in {} mode ({source}): its MTU or its number of queues is too large, or \
         the kernel's log (`dmesg`) says why{}",
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
    #[error("another `edge-ctl decap` is at work on {interface}\n  do: run it again when that one is done")]
    Busy { interface: String },
    #[error(
        "the pins are gone, but the program is still on {interface}: another process holds the link open\n  do: find it \
         with `bpftool link show`, whose `pids` name it"
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
        let code = match &source {
            ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
            ProgramError::XdpError(AyaXdpError::NetlinkError(error)) => error.raw_os_error(),
            _ => None,
        };
        let interface = interface.to_owned();
        match code {
            Some(libc::EBUSY | libc::EEXIST) => Self::Taken { interface },
            Some(libc::EOPNOTSUPP) if mode == AttachMode::Native => Self::NoNativeXdp { interface },
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { what: "attach an XDP program" },
            Some(code @ (libc::ERANGE | libc::EINVAL | libc::ENOSPC | libc::E2BIG)) => {
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
