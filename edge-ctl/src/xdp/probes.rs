//! The programs that send probes on the path of clients' packets, and the maps with the flows of probes.
//!
//! Nothing of this is pinned. All of it ends with the process; filters that a kernel without TCX links keeps have no
//! effect. Anybody can remove such filters, so each look at the programs finds lost ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Mutex, PoisonError},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, MapError},
    programs::SchedClassifier,
};
use bytemuck::{Pod, bytes_of};
use edge_common::abi::{FlowKeyV4, FlowKeyV6, ProbeRoute, map, program};

use super::{
    OBJECT, XdpError,
    tc::{self, Attachment, Side},
};
use crate::{
    bpf::{self, PinnedMaps},
    net::{self, Door},
    probe::{ProbeFlow, ProbeTable},
};

/// Maximum number of probes in flight per IP version. Their entries are not preallocated; only a bucket is reserved for
/// each.
const MOST: u32 = 1 << 16;
/// Filter places of the program on the door and of the program on other interfaces, among the filters of this crate.
const OUT: u16 = 1;
const IN: u16 = 2;

type Flows<const KEY: usize> = Mutex<HashMap<MapData, [u8; KEY], [u8; size_of::<ProbeRoute>()]>>;

/// The maps of probes in flight.
#[derive(Debug)]
pub(crate) struct Probes {
    v4: Flows<{ size_of::<FlowKeyV4>() }>,
    v6: Flows<{ size_of::<FlowKeyV6>() }>,
}

/// The attached programs of probes.
pub(crate) struct ProbePrograms {
    /// `None` if its attachment is a link, which nobody takes away: a descriptor is saved.
    door_program: Option<SchedClassifier>,
    /// `None` if it was lost and could not be attached again.
    door: Option<Attachment>,
    answers_program: SchedClassifier,
    /// By interface index: a recreated interface needs a new attachment.
    answers: BTreeMap<u32, Attachment>,
}

impl ProbePrograms {
    /// Loads the programs onto the pinned maps, and attaches the sending one to the door.
    ///
    /// # Errors
    /// If the kernel refuses any of it; nothing is left behind.
    pub(crate) fn load(maps: &PinnedMaps, door: &Door) -> Result<(Self, Probes), XdpError> {
        bpf::check_object(OBJECT, maps.capacity())?;
        let mut loader = EbpfLoader::new();
        for name in maps.names() {
            loader.map_pin_path(name, maps.pins().map(name));
        }
        loader.map_max_entries(map::PROBES_V4, MOST).map_max_entries(map::PROBES_V6, MOST);
        let mut object = loader.load(OBJECT).map_err(XdpError::not_loaded)?;
        let mut door_program = tc::hold(tc::load(&mut object, program::PROBE_OUT)?, program::PROBE_OUT)?;
        let attached = tc::attach(&mut door_program, &door.name, Side::Ingress, OUT)?;
        let door_program = (!attached.is_link()).then_some(door_program);
        let answers_program = tc::hold(tc::load(&mut object, program::PROBE_IN)?, program::PROBE_IN)?;
        let probes = Probes { v4: flows(&mut object, map::PROBES_V4)?, v6: flows(&mut object, map::PROBES_V6)? };
        Ok((Self { door_program, door: Some(attached), answers_program, answers: BTreeMap::new() }, probes))
    }

    /// Attaches the sending program to its door again if somebody has detached it; `None` if nobody has.
    pub(crate) fn keep_door(&mut self, door: &Door) -> Option<Result<(), XdpError>> {
        let Self { door_program: Some(door_program), door: attached, .. } = self else { return None };
        if attached.is_some() && tc::holds(door_program, &door.name, Side::Ingress, OUT) {
            return None;
        }
        // First, or it would take its successor's filter along.
        attached.take();
        Some(tc::attach(door_program, &door.name, Side::Ingress, OUT).map(|door| *attached = Some(door)))
    }

    /// Receives answers on these interfaces, and on no others. Attaches missing ones if `may` allows an attempt. Returns
    /// the result of each attempt.
    pub(crate) fn answer_by(
        &mut self,
        interfaces: &BTreeSet<String>,
        may: impl Fn(&str) -> bool,
    ) -> Vec<(String, Result<(), XdpError>)> {
        let mut wanted: BTreeMap<u32, &String> = BTreeMap::new();
        for name in interfaces {
            match net::index_of(name) {
                Ok(index) => wanted.extend(index.map(|index| (index, name))),
                // Present attachments stay until the lookup succeeds.
                Err(_) => return Vec::new(),
            }
        }
        let Self { answers_program, answers, .. } = self;
        // An interface that was moved to another namespace and back has the same index, but no program.
        let is_there =
            |index: &u32| wanted.get(index).is_some_and(|name| tc::holds(answers_program, name, Side::Ingress, IN));
        answers.retain(|index, _| is_there(index));
        let mut tried = Vec::new();
        for (index, name) in wanted {
            if answers.contains_key(&index) || !may(name) {
                continue;
            }
            let attached = tc::attach(answers_program, name, Side::Ingress, IN);
            tried.push((name.clone(), attached.map(|attachment| drop(answers.insert(index, attachment)))));
        }
        tried
    }

    /// Indexes of the interfaces on which answers are received.
    pub(crate) fn heard(&self) -> BTreeSet<u32> {
        self.answers.keys().copied().collect()
    }
}

fn flows<const KEY: usize>(object: &mut Ebpf, name: &'static str) -> Result<Flows<KEY>, XdpError> {
    let map = object.take_map(name).ok_or(XdpError::NotInObject(name))?;
    HashMap::try_from(map).map(Mutex::new).map_err(|source| XdpError::Map { name, source })
}

fn insert<K: Pod, const KEY: usize>(flows: &Flows<KEY>, key: &K, route: ProbeRoute) -> io::Result<()> {
    let value: [u8; size_of::<ProbeRoute>()] = bytemuck::cast(route);
    let mut flows = flows.lock().unwrap_or_else(PoisonError::into_inner);
    flows.insert(bytes::<K, KEY>(key), value, 0).map_err(|error| match error {
        MapError::SyscallError(error) => error.io_error,
        error => io::Error::other(error),
    })
}

fn answered_by<K: Pod, const KEY: usize>(flows: &Flows<KEY>, key: &K) -> Option<u32> {
    let flows = flows.lock().unwrap_or_else(PoisonError::into_inner);
    let route: ProbeRoute = bytemuck::pod_read_unaligned(&flows.get(&bytes::<K, KEY>(key), 0).ok()?);
    (route.answered_by != 0).then_some(route.answered_by)
}

/// A missing entry needs no removal.
fn remove<K: Pod, const KEY: usize>(flows: &Flows<KEY>, key: &K) {
    let _unused = flows.lock().unwrap_or_else(PoisonError::into_inner).remove(&bytes::<K, KEY>(key));
}

fn bytes<K: Pod, const KEY: usize>(key: &K) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    bytes.copy_from_slice(bytes_of(key));
    bytes
}

impl ProbeTable for Probes {
    fn add(&self, flow: &ProbeFlow, route: ProbeRoute) -> io::Result<()> {
        match flow {
            ProbeFlow::V4(key) => insert(&self.v4, key, route),
            ProbeFlow::V6(key) => insert(&self.v6, key, route),
        }
    }

    fn answered_by(&self, flow: &ProbeFlow) -> Option<u32> {
        match flow {
            ProbeFlow::V4(key) => answered_by(&self.v4, key),
            ProbeFlow::V6(key) => answered_by(&self.v6, key),
        }
    }

    fn remove(&self, flow: &ProbeFlow) {
        match flow {
            ProbeFlow::V4(key) => remove(&self.v4, key),
            ProbeFlow::V6(key) => remove(&self.v6, key),
        }
    }
}
