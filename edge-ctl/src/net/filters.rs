//! The BPF filters of an interface's `clsact`.

use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::{NetError, names::index_of, netlink};

/// The place of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilterPlace {
    /// Whether the filter is of outgoing packets, rather than incoming ones.
    pub(crate) is_egress: bool,
    pub(crate) priority: u16,
    /// Minor number of the handle; the major one is 0.
    pub(crate) handle: u16,
}

/// Kernel ID of the program in the filter at this place; `None` if there is no such filter, `clsact` or interface.
/// Blocks; not for asynchronous code.
pub(crate) fn filter_program(interface: &str, place: FilterPlace) -> Result<Option<u32>, NetError> {
    let Some(index) = index_of(interface).map_err(NetError::Open)? else { return Ok(None) };
    let filters = netlink::wait_for(async { netlink::Requests::open()?.filters(index, place.is_egress).await })?;
    Ok(filters.iter().filter(|filter| is_at(filter, place)).find_map(program))
}

fn is_at(filter: &TcMessage, place: FilterPlace) -> bool {
    let header = &filter.header;
    header.info >> 16 == u32::from(place.priority) && header.handle == TcHandle { major: 0, minor: place.handle }
}

fn program(filter: &TcMessage) -> Option<u32> {
    let options = filter.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    options.iter().find_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgId(program)) => Some(*program),
        _ => None,
    })
}
