//! What the load balancer itself says: status, events, history, configuration, maps.

use serde::Serialize;

use super::{
    Item,
    secrets::{HIDDEN, Secrets},
    system,
};
use crate::{
    bpf::{self, PinDir},
    cli::{
        args::{Dirs, DoctorArgs},
        doctor,
        failure::Failure,
        file, incident, runtime,
        status::Judged,
        to_json,
    },
    control::{
        chain,
        change::History,
        incident::incidents,
        metrics, offline,
        status::{Part, Status},
    },
};

/// The files of a bundle, in order.
pub(super) struct Items {
    items: Vec<Item>,
    secrets: Secrets,
}

impl Items {
    /// Everything that can be read, and why the rest can't.
    pub(super) fn gather(dirs: &Dirs) -> Result<(Vec<Item>, Secrets), Failure> {
        let mut all = Self { items: Vec::new(), secrets: Secrets::default() };
        let runtime = runtime(false)?;
        let looked = runtime.block_on(incident::look(dirs));
        let (events, status) = match looked {
            Ok((events, status)) => (Ok(events), status),
            Err(failure) => (Err(chain(&failure)), None),
        };
        let interfaces: Vec<_> =
            status.iter().flat_map(|status| &status.interfaces).map(|interface| interface.name.clone()).collect();
        all.configurations(dirs, status.as_ref());
        all.add("versions.txt", Ok(versions(status.as_ref())));
        all.status(status);
        all.add("events.jsonl", events.as_ref().map(|events| lines(events)).map_err(Clone::clone));
        all.add("incidents.json", events.map(|events| to_json(&incidents(&events, None, &|_, _| true), true)));
        let doctor = doctor::report(dirs, &DoctorArgs { file: None, json: false }).map_err(|failure| chain(&failure));
        all.add("doctor.txt", doctor.as_ref().map(|report| report.text(false)).map_err(Clone::clone));
        all.add("doctor.json", doctor.map(|report| to_json(&report, true)));
        all.add("maps.txt", maps(dirs));
        all.items.extend(runtime.block_on(system::items(&interfaces)));
        Ok((all.items, all.secrets))
    }

    fn add(&mut self, name: &str, content: Result<String, String>) {
        self.items.push(Item { name: name.to_owned(), content });
    }

    /// The daemon's file, and the texts of the last generations.
    fn configurations(&mut self, dirs: &Dirs, status: Option<&Status>) {
        let history = offline::history(&dirs.pin_dir);
        let daemon = status.and_then(|status| status.daemon.as_ref());
        let entry = history.as_ref().ok().and_then(|(history, generation)| history.entry(*generation));
        let file = file::in_force(daemon, entry).unwrap_or_else(|| file::DEFAULT.to_owned());
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"));
        let text = text.and_then(|text| self.secrets.out_of(&text));
        self.add("configuration.toml", text);
        match history {
            Ok((history, _)) => {
                self.add("history.json", Ok(without_texts(&history)));
                for entry in &history.entries {
                    let text = entry.text().ok_or_else(|| "it was not kept, or is damaged".to_owned());
                    let text = text.and_then(|text| self.secrets.out_of(&text));
                    self.add(&format!("history/{}.toml", entry.generation), text);
                }
            }
            Err(error) => self.add("history.json", Err(chain(&error))),
        }
    }

    fn status(&mut self, status: Option<Status>) {
        const NONE: &str = "no daemon answers, and the pinned maps can't be read";
        let Some(mut status) = status else { return self.add("status.json", Err(NONE.to_owned())) };
        self.add("metrics.txt", Ok(metrics::text(&status)));
        for pool in &mut status.pools {
            // The arguments of a command may be secrets, however short.
            if let Some(rest) = pool.probe.as_ref().and_then(|probe| probe.strip_prefix("command ")) {
                let program = rest.split(' ').next().unwrap_or_default();
                pool.probe = Some(format!("command {program} {HIDDEN}"));
            }
        }
        let judged = Judged::new(status, &Part::default()).map_err(|failure| chain(&failure));
        self.add("status.json", judged.map(|judged| to_json(&judged, true)));
    }
}

fn lines(values: &[impl Serialize]) -> String {
    values.iter().map(|value| to_json(value, false) + "\n").collect()
}

/// When each generation came into force, and how; the texts are files of their own.
fn without_texts(history: &History) -> String {
    to_json(history, true)
}

fn versions(status: Option<&Status>) -> String {
    let daemon = status.and_then(|status| status.daemon.as_ref());
    format!(
        "edge-ctl {}\nmaps v{}\ndaemon {}\nexecutable {}\n",
        env!("CARGO_PKG_VERSION"),
        edge_common::abi::ABI_VERSION,
        daemon.map_or("does not answer", |daemon| daemon.version.as_str()),
        std::env::current_exe().map_or_else(|error| error.to_string(), |path| path.display().to_string()),
    )
}

/// Sizes of the pinned maps, and the memory that each takes.
fn maps(dirs: &Dirs) -> Result<String, String> {
    let pins = PinDir::new(&dirs.pin_dir).and_then(|pins| pins.in_force()).map_err(|error| chain(&error))?;
    let line = |(name, found): (&str, Result<bpf::Described, bpf::BpfError>)| match found {
        Ok(map) => format!(
            "{name}: id {}, {}, {} entries, key {} bytes, value {} bytes, memory {}\n",
            map.id,
            map.kind,
            map.entries,
            map.key,
            map.value,
            map.memory.map_or("unknown".to_owned(), |bytes| format!("{bytes} bytes")),
        ),
        Err(error) => format!("{name}: {}\n", chain(&error)),
    };
    Ok(bpf::describe(&pins).map(line).collect())
}
