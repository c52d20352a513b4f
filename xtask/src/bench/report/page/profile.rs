//! Where the instructions of a packet go.

use std::fmt;

use super::{
    super::{super::results::Profile, format, names, table::Table},
    Page,
};

impl Page<'_> {
    pub(super) fn profile(&mut self, kinds: &[Profile]) -> fmt::Result {
        let Some(first) = kinds.first() else { return Ok(()) };
        self.heading("## Where the instructions go")?;
        self.prose(
            "The built load balancer was run in an interpreter, instruction by instruction, on one packet of each kind; what \
             it did to each was compared with what the same code does outside the kernel. So the counts are exact, and of \
             the object as it is built: the kernel replaces each of the *look-ups* in an array by some seven more \
             instructions. *calls* are those of functions of the kernel, which cost much more: to move the frame's head, to \
             search or change a hash map, to read the clock. *stack* are loads from the stack and stores to it. The other \
             columns are the parts that an instruction was compiled from, and add up to *all*: *owner* is the look at the \
             slot's owner, *record* and *pick* are what a packet of an unsettled service does in its place, *maps* are \
             look-ups and counters, *bounds* the comparisons with the frame's end before it is read or written, and *odd* is \
             the longer look at packets with options or extension headers.",
        )?;
        let steps: Vec<_> = first.steps.iter().map(|(step, _)| format!(">{step}")).collect();
        let fixed = ["packets", ">all", ">look-ups", ">calls", ">stack"];
        let headings: Vec<_> = fixed.into_iter().chain(steps.iter().map(String::as_str)).collect();
        let mut table = Table::new(&headings);
        for kind in kinds {
            let counts = [kind.instructions, kind.lookups, kind.calls, kind.stack].into_iter();
            let counts = counts.chain(kind.steps.iter().map(|(_, count)| *count)).map(format::count);
            table.row(std::iter::once(packets(kind)).chain(counts));
        }
        self.table(&table)
    }
}

/// What the packets of a line are.
fn packets(kind: &Profile) -> String {
    let Profile { mode, family, protocol, state, .. } = kind;
    let (packet, state) = (names::packet(protocol), names::state(state));
    match (mode.as_str(), family.as_str()) {
        ("none", "none") => format!("{state}, {packet}"),
        ("none", _) => format!("{state}, IPv{family}, {packet}"),
        _ if state == "steady" => format!("{}, {packet}", names::way(mode, family)),
        _ => format!("{}, {packet}, {state}", names::way(mode, family)),
    }
}
