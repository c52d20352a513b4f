//! `[[notify]]`: commands and webhooks that are told of events.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use hyper::Uri;

use super::{
    probe_kinds,
    problems::{Problems, Read},
    schema::{NOTIFY, nearest},
    values::{self, Entry, Wrong},
    walk::{Located, Table},
};
use crate::event_kind::EventKind;

/// Each may run a process, whose file descriptors count.
const MOST: usize = 8;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

const COMMAND: &str = "command = [\"/usr/local/bin/page\", \"--team\", \"network\"]";
const WEBHOOK: &str = "webhook = \"https://alerts.example.org/edge\"";
const EVENTS: &str = "events = [\"pool_left\", \"pool_returned\"]";

/// A command or a webhook that is told of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// Distinct.
    pub name: String,
    pub target: HookTarget,
    /// Kinds of events, each once.
    pub events: Vec<EventKind>,
    /// For one run.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HookTarget {
    /// A program by its absolute path, with arguments, and the user that runs it.
    Command {
        argv: Vec<String>,
        user: String,
    },
    Webhook(Webhook),
}

/// A URL for POST requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Webhook {
    pub tls: bool,
    /// A name or an address; an IPv6 address in brackets.
    pub host: String,
    /// `None`: that of the protocol.
    pub port: Option<u16>,
    /// Path and query.
    pub path: String,
    /// File with the certificate authorities; `None`: those of this host.
    pub ca: Option<PathBuf>,
}

/// The hooks, in the file's order.
pub(super) fn read(root: &Table<'_>) -> Read<Vec<Hook>> {
    let tables = root.tables("notify", &NOTIFY)?;
    if let Some(table) = tables.get(MOST) {
        return Err(table.problems.add(table.at, format!("there are more than {MOST} [[notify]]"), "fewer of them"));
    }
    let hooks: Vec<Read<Located<Hook>>> =
        tables.iter().map(|table| Ok(Located { value: hook(table)?, at: table.place("name") })).collect();
    let hooks = hooks.into_iter().collect::<Read<Vec<_>>>()?;
    distinct(root.problems, &hooks)?;
    Ok(hooks.into_iter().map(|hook| hook.value).collect())
}

fn hook(table: &Table<'_>) -> Read<Hook> {
    let name = table.optional("name", values::name);
    let events = table.optional("events", events);
    let timeouts = Duration::from_secs(1)..=Duration::from_mins(5);
    let timeout = table.optional("timeout", values::duration(timeouts, "timeout = \"10s\""));
    let target = target(table);
    let attention = || EventKind::ALL.iter().copied().filter(|kind| kind.needs_attention()).collect();
    let target = target?;
    Ok(Hook {
        name: name?.map_or_else(|| target.default_name().to_owned(), |found| found.value),
        target,
        events: events?.map_or_else(attention, |found| found.value),
        timeout: timeout?.map_or(DEFAULT_TIMEOUT, |found| found.value),
    })
}

fn target(table: &Table<'_>) -> Read<HookTarget> {
    if table.has("command") && table.has("webhook") {
        let what = "`command` and `webhook` in one [[notify]]";
        return Err(table.problems.add(table.place("webhook"), what, "a [[notify]] for each of them"));
    }
    for (this, key, of) in [("webhook", "user", "command"), ("command", "ca", "webhook")] {
        if table.has(this) && table.has(key) {
            let what = format!("`{key}` is for a `{of}`, and this is a `{this}`");
            return Err(table.problems.add(
                table.place(key),
                what,
                format!("`{of}` in place of `{this}`, or remove `{key}`"),
            ));
        }
    }
    if table.has("command") {
        let (argv, user) = probe_kinds::program(table, COMMAND)?;
        return Ok(HookTarget::Command { argv, user });
    }
    let ca = table.optional("ca", probe_kinds::ca);
    let webhook = table.optional("webhook", webhook)?;
    let Some(webhook) = webhook else { return Err(table.missing("command", &format!("{COMMAND}, or {WEBHOOK}"))) };
    Ok(HookTarget::Webhook(Webhook { ca: ca?.map(|found| found.value), ..webhook.value }))
}

fn webhook(entry: &Entry<'_>) -> Result<Webhook, Wrong> {
    let text = entry.string(WEBHOOK)?;
    let wrong = |why: &str| Err(entry.wrong(why, WEBHOOK));
    let Ok(uri) = text.parse::<Uri>() else { return wrong("which is not a URL") };
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return wrong("which does not begin with http:// or https://"),
    };
    let Some(authority) = uri.authority() else { return wrong("which lacks a host") };
    if authority.as_str().contains('@') {
        return wrong("which has a user in it: a token belongs into the path or the query");
    }
    // What stands behind the host is a colon and a port.
    let has_port = authority.as_str().len() > authority.host().len();
    if authority.host().is_empty() || has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return wrong("which lacks a host, or has no port from 1 to 65535 after the colon");
    }
    Ok(Webhook {
        tls,
        host: authority.host().to_owned(),
        port: authority.port_u16(),
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        ca: None,
    })
}

fn events(entry: &Entry<'_>) -> Result<Vec<EventKind>, Wrong> {
    let one = |entry: &Entry<'_>| {
        let text = entry.string(EVENTS)?;
        // The last kind is for a single subscriber of `events --follow`.
        let kinds = EventKind::ALL.iter().copied().filter(|kind| *kind != EventKind::Lagged);
        if let Some(kind) = kinds.clone().find(|kind| kind.name() == text) {
            return Ok(kind);
        }
        let near = nearest(text, kinds.map(EventKind::name));
        let write = near.map_or_else(|| EVENTS.to_owned(), |near| format!("\"{near}\", if you meant that"));
        Err(entry.wrong("which is no kind of event", write))
    };
    let mut kinds: Vec<_> = values::list(entry, 1..=64, EVENTS, one)?.into_iter().map(|(_, kind)| kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    Ok(kinds)
}

fn distinct(problems: &Problems<'_>, hooks: &[Located<Hook>]) -> Read<()> {
    let mut known = BTreeMap::new();
    for hook in hooks {
        if let Some(first) = known.insert(&hook.value.name, hook.at) {
            let what =
                format!("another [[notify]] is called {} as well, on line {}", hook.value.name, problems.line(first));
            return Err(problems.add(hook.at, what, "name = \"another-name\""));
        }
    }
    Ok(())
}

impl HookTarget {
    /// The program's file name, or the host.
    fn default_name(&self) -> &str {
        match self {
            Self::Command { argv, .. } => argv.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default(),
            Self::Webhook(webhook) => &webhook.host,
        }
    }
}
