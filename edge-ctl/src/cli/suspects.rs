//! `edge-ctl suspects`: the backends that their clients' packets show in trouble.

use serde::Serialize;

use super::{
    args::Dirs,
    coloured,
    failure::Failure,
    print_line,
    status::status_once,
    table::{Cell, Shade, Table, age},
    to_json,
};
use crate::control::status::{BackendState, Status, SuspicionStatus};

/// A suspected backend.
#[derive(Debug, Serialize)]
struct Suspect<'a> {
    backend: &'a str,
    state: BackendState,
    #[serde(flatten)]
    suspicion: &'a SuspicionStatus,
}

pub(super) async fn suspects(dirs: &Dirs, json: bool) -> Result<(), Failure> {
    let status = status_once(dirs, &mut None, true).await?;
    if json {
        print_line(&to_json(&found(&status), true));
    } else {
        print_line(render(&status, coloured(&std::io::stdout())).trim_end());
    }
    Ok(())
}

fn found(status: &Status) -> Vec<Suspect<'_>> {
    let backends = status.pools.iter().flat_map(|pool| &pool.backends);
    backends
        .filter_map(|backend| {
            let suspicion = backend.suspicion.as_ref()?;
            Some(Suspect { backend: &backend.name, state: backend.state, suspicion })
        })
        .collect()
}

fn render(status: &Status, colour: bool) -> String {
    let suspects = found(status);
    if status.daemon.is_none() {
        return "Without a daemon nobody looks at the evidence.".to_owned();
    }
    if suspects.is_empty() {
        return "No backend is suspected: clients of services in nat are answered.".to_owned();
    }
    let mut rows = Table::new(colour, ["BACKEND", "STATE", "FOR", "EVIDENCE", "COMPARED WITH"]);
    for Suspect { backend, state, suspicion } in suspects {
        let (text, shade) = match state {
            BackendState::Down => ("down", Shade::Red),
            BackendState::Up => ("up", Shade::Yellow),
            BackendState::Unknown => ("unknown", Shade::Yellow),
            BackendState::Draining => ("draining", Shade::Yellow),
            BackendState::Disabled => ("disabled", Shade::Yellow),
        };
        let SuspicionStatus { evidence, since, others, others_suspected } = suspicion;
        rows.row([
            Cell::from(backend.to_owned()),
            Cell::shaded(text.to_owned(), shade),
            Cell::from(age(status.at.saturating_sub(*since) / 1000)),
            Cell::from(evidence.clone()),
            Cell::from(format!("{others_suspected} of {others} others of its pool suspected")),
        ]);
    }
    rows.finish()
}
