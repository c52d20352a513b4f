//! A tc program on one side of an interface: by a TCX link if the kernel has them (Linux 6.6), otherwise as a filter of
//! the interface's `clsact`.
//!
//! A TCX link ends with its holder. A filter stays if its process is killed; so each of our filters has a fixed place,
//! where the next process replaces it.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, Link as _},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
};

use super::XdpError;
use crate::bpf::BpfError;

/// The priority of our filters, which is part of their place: no other program should use it.
const PRIORITY: u16 = 0xed9e;

/// The direction of the packets that a program sees on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Ingress,
    Egress,
}

impl From<Side> for TcAttachType {
    fn from(side: Side) -> Self {
        match side {
            Side::Ingress => Self::Ingress,
            Side::Egress => Self::Egress,
        }
    }
}

/// An attachment of a program; dropping it detaches the program.
#[derive(Debug)]
pub(super) struct Attachment(SchedClassifierLink);

/// The program `name` of a loaded object, accepted by the kernel.
pub(super) fn load<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, XdpError> {
    let program = object.program_mut(name).and_then(|program| program.try_into().ok());
    let program: &mut SchedClassifier = program.ok_or(XdpError::NotInObject(name))?;
    program.load().map_err(|source| XdpError::Program { name, source: Box::new(source) })?;
    Ok(program)
}

/// The same program without its object, which holds a descriptor of each map.
pub(super) fn hold(program: &SchedClassifier, name: &'static str) -> Result<SchedClassifier, XdpError> {
    let held = program.info().and_then(|info| SchedClassifier::from_program_info(info, name.into()));
    held.map_err(|source| XdpError::Program { name, source: Box::new(source) })
}

/// Attaches a loaded program before the present ones, whose verdicts could hide packets from it. `place` distinguishes the filters of this crate's programs, and is not 0; with TCX links
/// it has no effect.
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    side: Side,
    place: u16,
) -> Result<Attachment, XdpError> {
    let refused = |source| XdpError::Attach { interface: interface.to_owned(), source: Box::new(source) };
    let side = side.into();
    let link = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = match program.attach_with_options(interface, side, link) {
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EINVAL) => {
            filter(program, interface, side, TcHandle::new(0, place)).map_err(refused)?
        }
        attached => attached.map_err(refused)?,
    };
    program.take_link(id).map(Attachment).map_err(refused)
}

/// Whether a program is attached to that side of an interface. Returns true if the kernel can't determine it, since it can only
/// be queried for TCX links.
pub(super) fn holds(program: &SchedClassifier, interface: &str, side: Side) -> bool {
    let Ok(ours) = program.info().map(|info| info.id()) else { return true };
    // Without TCX links the query fails, and filters are not looked for.
    SchedClassifier::query_tcx(interface, side.into())
        .map_or(true, |(_, programs)| programs.iter().any(|program| program.id() == ours))
}

fn filter(
    program: &mut SchedClassifier,
    interface: &str,
    side: TcAttachType,
    handle: TcHandle,
) -> Result<tc::SchedClassifierLinkId, ProgramError> {
    match tc::qdisc_add_clsact(interface) {
        Err(error) if !is_there(&error) => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let place = NlOptions { priority: PRIORITY, handle, classid: None };
    match program.attach_with_options(interface, side, TcAttachOptions::Netlink(place)) {
        Err(ProgramError::TcError(error)) if is_there(&error) => {
            let left = SchedClassifierLink::attached(interface, side, PRIORITY, handle, None);
            program.attach_to_link(left.map_err(TcError::IoError)?)
        }
        attached => attached,
    }
}

/// Removes the filter that [`Attachment::keep`] left at this place, if there is one. A link goes with its pin.
pub(super) fn remove_filter(interface: &str, side: Side, place: u16) -> Result<(), XdpError> {
    let Ok(left) = SchedClassifierLink::attached(interface, side.into(), PRIORITY, TcHandle::new(0, place), None)
    else {
        // The filter was deleted with its interface.
        return Ok(());
    };
    match left.detach() {
        // No filter, or no `clsact` at all.
        Err(ProgramError::NetlinkError(error))
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) =>
        {
            Ok(())
        }
        Err(source) => Err(XdpError::Attach { interface: interface.to_owned(), source: Box::new(source) }),
        Ok(()) => Ok(()),
    }
}

/// Whether the error means that the object exists already.
fn is_there(error: &TcError) -> bool {
    match error {
        TcError::AlreadyAttached => true,
        TcError::NetlinkError(error) => error.raw_os_error() == Some(libc::EEXIST),
        _ => false,
    }
}

impl Attachment {
    /// Leaves the program attached when this process ends: a link is pinned at `path`, a filter stays anyway.
    pub(super) fn keep(self, path: &Path) -> Result<(), XdpError> {
        let is_link = <&FdLink>::try_from(&self.0).is_ok();
        if !is_link {
            std::mem::forget(self.0);
            return Ok(());
        }
        let unusable = |source| XdpError::Link { interface: path.display().to_string(), source };
        let link = FdLink::try_from(self.0).map_err(unusable)?;
        link.pin(path).map_err(|source| BpfError::Pin { path: path.to_owned(), source })?;
        Ok(())
    }
}
