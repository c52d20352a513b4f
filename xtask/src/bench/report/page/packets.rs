//! What a packet costs.

use std::fmt;

use super::{
    super::{
        super::results::{Results, Row},
        format, names,
        table::Table,
    },
    Page,
};

impl Page<'_> {
    pub(super) fn packets(&mut self, results: &Results) -> fmt::Result {
        self.heading("## Cost of a packet")?;
        self.prose(
            "The kernel's test run hands a program the same packet over and over, as the last round left it. So what is \
             timed is a driver: an XDP program that undoes what was done to the packet, restores its bytes, stamps the \
             next flow into it, and tail-calls the program under test. Beside each sample the driver is timed with two \
             programs that do next to nothing, the *baselines*: one returns at once, one moves the head of the frame by \
             20 bytes and sends it.",
        )?;
        let mut table = Table::new(&["baseline, driver included", ">ns a packet"]);
        table.row(["returns at once".to_owned(), format::nanoseconds(results.baselines.return_ns)]);
        table.row(["moves the head".to_owned(), format::nanoseconds(results.baselines.head_ns)]);
        self.table(&table)?;
        self.prose(
            "In the tables, *raw* is a packet's time with the driver; *net* is without it: less what it takes to return at \
             once and, where the program moves the head or cuts the frame's end off, less half of what that costs, which is \
             the driver's part. *× return* and *× head* are *raw* over the two baselines. All are medians; half of the \
             samples of *raw* lie within *spread* of theirs. The ratios compare across machines, the nanoseconds do not.",
        )?;
        if results.rows.iter().any(|row| row.noisy) {
            self.prose(
                "Where times have a star, the machine ran at its full pace in few of the samples only: there, the ratios, \
                 each of one sample's times, say more.",
            )?;
        }
        self.prose(
            "`4in6` is IPv4 in a tunnel of IPv6. A TCP SYN is the first packet of a connection. *Steady*: the backend that \
             owns the flow's slot is alive, and is the one that takes new flows.",
        )?;
        self.plot("flows.svg")?;
        self.plot("flows-ratio.svg")?;

        let is_small = |row: &&Row| names::world(row) == names::SMALL;
        let (settled, transition): (Vec<_>, Vec<_>) =
            results.rows.iter().filter(is_small).partition(|row| row.table.is_empty());
        let (steady, other): (Vec<_>, Vec<_>) = settled.into_iter().partition(|row| row.state == "steady");
        let large: Vec<_> = results.rows.iter().filter(|row| !is_small(row)).collect();
        if !steady.is_empty() {
            self.heading("### Forwarded, steady")?;
            self.prose("One service of each kind, three backends.")?;
            self.rows(&["state", "table", "services", "backends"], &steady)?;
        }
        if !transition.is_empty() {
            self.transition(&transition)?;
        }
        if !other.is_empty() {
            self.heading("### Other packets")?;
            self.prose(
                "*reject*: no backend is left, and the client is told so; it is told, too, when a packet's TTL is exceeded \
                 or when it is too big for the tunnel. *first fragment* is forwarded, and remembered, so that later ones follow it. \
                 ICMP errors that concern no flow, and what is not ours, go on to the host as they are; a malformed packet, \
                 and a later *fragment* whose first one was not seen, are dropped. *decapsulated* and *not tunnel* are packets at the tunnel's other end. One \
                 service of each kind, three backends.",
            )?;
            self.plot("kinds.svg")?;
            self.rows(&["table", "services", "backends"], &other)?;
        }
        if !large.is_empty() {
            self.heading("### More services and backends")?;
            self.prose(
                "Flows are spread over all services. Each service has slots of its own, so that with more of them the \
                 packets read more of the memory.",
            )?;
            self.plot("services.svg")?;
            self.rows(&["table"], &large)?;
        }
        Ok(())
    }

    fn transition(&mut self, rows: &[&Row]) -> fmt::Result {
        self.heading("### While a service is not settled")?;
        self.prose(
            "After a change, and until owners have followed, packets of the services that it concerns ask for their flow's \
             record. *unconcerned*: a packet of a running flow that has none and needs none: what a change costs those whom \
             it does not concern. *record read*: the flow has a record, and its backend lives. *recorded at new*: a SYN goes \
             to another backend than its slot's owner, and is recorded there. *recorded at owner*: so is a running flow, at \
             its slot's owner, which is to change. *no room*: a SYN for whose record there is no room goes to the owner. \
             *owner taken over*: the owner is dead, too, and who takes the SYN becomes the owner; here the table has room for \
             one flow only.",
        )?;
        self.prose(
            "*fresh* is a table in which nothing was before. *aged* is one in which records came and went, in any order, and \
             of which nine tenths are taken, by these flows or by others: so is one that was in use. In the rows that leave \
             records each packet is of another flow, and the records are taken out from time to time while nothing is timed. \
             The more flows, the more of the table is in no cache near the processor: that is what these packets wait for, and \
             why those of a settled service ask no table. One service of each kind, three backends, 65,536 slots.",
        )?;
        self.plot("transition.svg")?;
        self.rows(&["services", "backends"], rows)
    }

    /// A table of `rows`, without the columns that the text beside it speaks for.
    fn rows(&mut self, without: &[&str], rows: &[&Row]) -> fmt::Result {
        let headings = [
            "program",
            "mode",
            "family",
            "packet",
            "state",
            "table",
            ">flows",
            ">services",
            ">backends",
            ">raw ns",
            ">net ns",
            ">× return",
            ">× head",
            ">spread",
        ];
        let wanted = headings.map(|heading| !without.contains(&heading.trim_start_matches('>')));
        let mut table = Table::new(&only(headings, wanted));
        for row in rows {
            let star = if row.noisy { "\\*" } else { "" };
            let cells = [
                row.program.clone(),
                row.mode.clone(),
                row.family.clone(),
                names::packet(&row.protocol).to_owned(),
                names::state(&row.state),
                row.table.clone(),
                format::count(row.flows),
                format::count(row.services),
                format::count(row.backends),
                format!("{}{star}", format::nanoseconds(row.raw_ns)),
                format!("{}{star}", format::nanoseconds(row.net_ns)),
                format::ratio(row.ratio_return),
                format::ratio(row.ratio_head),
                format::percent(row.spread),
            ];
            table.row(only(cells, wanted));
        }
        self.table(&table)
    }
}

fn only<T, const N: usize>(all: [T; N], wanted: [bool; N]) -> Vec<T> {
    all.into_iter().zip(wanted).filter_map(|(one, wanted)| wanted.then_some(one)).collect()
}
