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
use crate::{
    bpf::BpfError,
    net::{self, FilterPlace},
};

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
        Err(error) if is_without_tcx(&error) => {
            filter(program, interface, side, TcHandle::new(0, place)).map_err(refused)?
        }
        attached => attached.map_err(refused)?,
    };
    program.take_link(id).map(Attachment).map_err(refused)
}

/// Whether a program is attached to that side of an interface, by a TCX link or by the filter at this place. Returns true
/// if the kernel does not say. Blocks; not for asynchronous code.
pub(super) fn holds(program: &SchedClassifier, interface: &str, side: Side, place: u16) -> bool {
    let Ok(ours) = program.info().map(|info| info.id()) else { return true };
    match SchedClassifier::query_tcx(interface, side.into()) {
        Ok((_, programs)) => programs.iter().any(|program| program.id() == ours),
        Err(error) if is_without_tcx(&error) => {
            let place = FilterPlace { is_egress: side == Side::Egress, priority: PRIORITY, handle: place };
            // `clsact`, and all filters with it, can be removed by anybody.
            net::filter_program(interface, place).map_or(true, |found| found == Some(ours))
        }
        Err(_) => true,
    }
}

/// As [`holds`], for what [`Attachment::keep`] left: a pinned link, or a filter whose program is pinned at `path`.
pub(super) fn is_kept(path: &Path, interface: &str, side: Side, place: u16) -> bool {
    // A pinned link stays as long as its interface.
    SchedClassifier::query_tcx(interface, side.into()).is_ok()
        || SchedClassifier::from_pin(path).map_or(true, |program| holds(&program, interface, side, place))
}

/// Whether the error of a system call means that this kernel has no TCX links.
fn is_without_tcx(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EINVAL))
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
    /// Whether it is a TCX link, and not a filter.
    pub(super) fn is_link(&self) -> bool {
        <&FdLink>::try_from(&self.0).is_ok()
    }

    /// Leaves the program attached when this process ends: a link is pinned at `path`, a filter stays anyway.
    pub(super) fn keep(self, path: &Path) -> Result<(), XdpError> {
        if !self.is_link() {
            std::mem::forget(self.0);
            return Ok(());
        }
        let unusable = |source| XdpError::Link { interface: path.display().to_string(), source };
        let link = FdLink::try_from(self.0).map_err(unusable)?;
        link.pin(path).map_err(|source| BpfError::Pin { path: path.to_owned(), source })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aya::EbpfLoader;
    use edge_common::abi::program;

    use super::*;
    use crate::{
        net::lab::{in_lab, sh},
        xdp::OBJECT,
    };

    const HERE: FilterPlace = FilterPlace { is_egress: true, priority: PRIORITY, handle: 7 };

    /// On kernels with TCX links, too.
    #[test]
    fn a_filter_is_found_at_its_place_until_somebody_removes_it() {
        in_lab(|_| {
            let found = |place| net::filter_program("edge0", place).expect("the kernel answers");
            assert_eq!(found(HERE), None, "no clsact");
            let mut object = EbpfLoader::new().load(OBJECT).expect("the kernel takes the maps");
            let program = load(&mut object, program::MSS).expect("the kernel takes the program");
            let ours = program.info().expect("it is loaded").id();
            let add = |program: &mut _| filter(program, "edge0", TcAttachType::Egress, TcHandle::new(0, 7));
            let id = add(program).expect("the kernel takes the filter");
            assert_eq!(found(HERE), Some(ours));
            for elsewhere in [
                FilterPlace { is_egress: false, ..HERE },
                FilterPlace { priority: 7, ..HERE },
                FilterPlace { handle: 8, ..HERE },
            ] {
                assert_eq!(found(elsewhere), None, "{elsewhere:?}");
            }
            sh("tc qdisc del dev edge0 clsact");
            assert_eq!(found(HERE), None);
            // As a daemon does: first the remains of the old one.
            drop(program.take_link(id));
            let id = add(program).expect("clsact is added again");
            assert_eq!(found(HERE), Some(ours));
            sh("tc filter del dev edge0 egress");
            assert_eq!(found(HERE), None);
            drop(program.take_link(id));
            assert_eq!(net::filter_program("none0", HERE).expect("the kernel answers"), None);
        });
    }
}
