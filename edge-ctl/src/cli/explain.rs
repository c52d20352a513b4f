//! `explain`: where a client's flow goes, and why.

use std::{fmt::Write as _, io};

use super::{
    args::{Dirs, ExplainArgs},
    coloured,
    failure::Failure,
    print_line,
    table::{Cell, Table},
    to_json,
};
use crate::control::{
    explain::{BackendPart, Explanation, Fate, FlowQuery},
    offline::Offline,
};

pub(super) fn explain(dirs: &Dirs, args: &ExplainArgs) -> Result<(), Failure> {
    let ExplainArgs { protocol, client, vip, assumptions, json } = args;
    if client.is_ipv4() != vip.is_ipv4() {
        return Err(Failure::Families { client: *client, vip: *vip });
    }
    let query = FlowQuery { protocol: *protocol, client: *client, vip: *vip };
    let explained = Offline::open(&dirs.pin_dir).and_then(|offline| offline.explain(query, assumptions));
    let explanation = explained.map_err(|error| Failure::offline(error, dirs))?;
    let text = if *json { to_json(&explanation, true) } else { render(&explanation, coloured(&io::stdout())) };
    print_line(text.trim_end());
    Ok(())
}

fn render(explanation: &Explanation, colour: bool) -> String {
    let Explanation { flow, assumed, service, pools, pick, record, starts, goes_on } = explanation;
    let mut text = format!("flow        {flow}\n");
    if !assumed.is_empty() {
        let _ = writeln!(text, "if          {}", assumed.join(", "));
    }
    let Some(service) = service else {
        let _ = writeln!(text, "service     no service has this destination");
        return text + &fate("result", starts);
    };
    let _ = writeln!(text, "service     {} ({})", service.name, service.mode);
    let owner = match (&service.owner, &service.owner_state) {
        (Some(owner), Some(state)) => format!("owner {owner} ({state})"),
        _ => "without an owner".to_owned(),
    };
    let looks = if service.looks { "; in transition: packets look at records and the pick" } else { "" };
    let _ = writeln!(text, "slot        {} of {}, {owner}{looks}", service.slot, service.slots);
    match record {
        Some(record) => {
            let backend = record.backend.as_deref().unwrap_or("a removed backend");
            let from =
                record.source.as_ref().map_or(String::new(), |source| format!(", which sees {source} as the client"));
            let _ = writeln!(
                text,
                "record      at {backend}{from}, {}, silent for {} s",
                record.stage, record.silent_seconds
            );
        }
        None => text += "record      none\n",
    }
    let mut table = Table::new(colour, ["POOL", "TAKE NEW FLOWS", "NEEDED", "WHY"]);
    for pool in pools {
        let available = format!("{} of {}", pool.available, pool.backends);
        table.row([Cell::from(&pool.name), Cell::from(available), Cell::from(pool.needed), Cell::from(&pool.why)]);
    }
    let _ = write!(text, "\n{}\n", table.finish());
    let _ = writeln!(text, "pick        {}", pick.as_deref().unwrap_or("none: no pool has a backend for it"));
    if starts == goes_on {
        return text + &fate("result", starts);
    }
    text + &fate("new flow", starts) + &fate("running", goes_on)
}

fn fate(what: &str, Fate { exit, meaning, backend }: &Fate) -> String {
    let Some(BackendPart { name, state, next_hop, egress, vlan, mtu, path_mtu }) = backend else {
        return format!("{what:<12}{exit}: {meaning}\n");
    };
    let next_hop = match (next_hop, egress) {
        (Some(hop), Some(egress)) => format!("next hop {hop} by {egress}"),
        _ => "next hop not known: the kernel looks it up for each packet".to_owned(),
    };
    let mut text = format!("{what:<12}to {name} ({state}): {exit}, {next_hop}");
    for (what, value) in [("VLAN", vlan), ("MTU", mtu), ("path MTU", path_mtu)] {
        let _ = value.map(|value| write!(text, ", {what} {value}"));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::explain::{PoolPart, RecordPart, ServicePart};

    #[test]
    fn all_that_decides_is_there() {
        let backend = BackendPart {
            name: "provider-b/b1".to_owned(),
            state: "up".to_owned(),
            next_hop: Some("02:00:00:00:00:01".to_owned()),
            egress: Some("eth1".to_owned()),
            vlan: None,
            mtu: Some(1500),
            path_mtu: None,
        };
        let pool = |name: &str, serves, available, why: &str| PoolPart {
            name: name.to_owned(),
            serves,
            available,
            needed: 2,
            backends: 3,
            why: why.to_owned(),
        };
        let fate = |exit: &str, backend| Fate { exit: exit.to_owned(), meaning: "Said.".to_owned(), backend };
        let explanation = Explanation {
            flow: "tcp from 203.0.113.7:51515 to 192.0.2.10:443".to_owned(),
            assumed: vec!["provider-a is down".to_owned()],
            service: Some(ServicePart {
                name: "web".to_owned(),
                mode: "ipip".to_owned(),
                slot: 17,
                slots: 1024,
                owner: Some("provider-a/a1".to_owned()),
                owner_state: Some("down".to_owned()),
                looks: true,
            }),
            pools: vec![
                pool("provider-a", false, 0, "too few of its backends take new flows"),
                pool("provider-b", true, 3, "serves"),
            ],
            pick: Some("provider-b/b1".to_owned()),
            record: Some(RecordPart {
                backend: Some("provider-a/a1".to_owned()),
                stage: "established".to_owned(),
                silent_seconds: 3,
                source: None,
            }),
            starts: fate("ipip_redirect", Some(backend)),
            goes_on: fate("no_next_hop", None),
        };
        insta::assert_snapshot!(render(&explanation, false), @r"
        flow        tcp from 203.0.113.7:51515 to 192.0.2.10:443
        if          provider-a is down
        service     web (ipip)
        slot        17 of 1024, owner provider-a/a1 (down); in transition: packets look at records and the pick
        record      at provider-a/a1, established, silent for 3 s

        POOL        TAKE NEW FLOWS  NEEDED  WHY
        provider-a  0 of 3          2       too few of its backends take new flows
        provider-b  3 of 3          2       serves

        pick        provider-b/b1
        new flow    to provider-b/b1 (up): ipip_redirect, next hop 02:00:00:00:00:01 by eth1, MTU 1500
        running     no_next_hop: Said.
        ");
    }
}
