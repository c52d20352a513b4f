//! Gathers the facts that `doctor` judges. A fact that can't be read is itself a fact.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use edge_common::abi::ABI_VERSION;
use nix::unistd::Uid;

use crate::{
    bpf::{PinDir, interface_of},
    cli::{
        args::{Dirs, DoctorArgs},
        failure::Failure,
        file, runtime,
        status::status_once,
        tool,
    },
    config::{self, AttachMode, Config},
    control::{
        chain,
        doctor::{
            Clock, Configuration, Daemon, Decap, Facts, Host, Interface, Kernel, Limits, PROPERTIES, Unit, Versions,
            Vips, Way, Ways, properties,
        },
        events::unix_ms,
        headline::headline,
        offline,
        status::Status,
        takedown,
    },
    net, preflight,
    xdp::{self, DecapPins},
};

/// Time for the service manager's answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// All facts, as far as they can be read.
pub(super) fn facts(dirs: &Dirs, args: &DoctorArgs) -> Result<Facts, Failure> {
    let runtime = runtime(false)?;
    let looked = runtime.block_on(status_once(dirs, &mut None, false));
    let unit = runtime.block_on(unit());
    let (status, why) = match looked {
        Ok(status) => (Some(status), None),
        Err(failure) => (None, Some(chain(&failure))),
    };
    let daemon = status.as_ref().and_then(|status| status.daemon.as_ref());
    let history = offline::history(&dirs.pin_dir).ok();
    let entry = history.as_ref().and_then(|(history, generation)| history.entry(*generation));
    let in_force = entry.and_then(|entry| Some((entry.generation, entry.text()?)));
    let file = args.file.clone().or_else(|| Some(file::in_force(daemon, entry)?.into()));
    let named = file.is_some();
    let file = file.unwrap_or_else(|| file::DEFAULT.into());
    let read = read(&file);
    let parsed =
        in_force.as_ref().and_then(|(_, text)| config::parse_accepted(text, "the configuration in force").ok());
    let config = parsed.or_else(|| read.as_ref()?.as_ref().ok().cloned());
    let pins = PinDir::new(&dirs.pin_dir);
    let addresses = net::host_addresses().ok().map(|addresses| addresses.all.into_iter().collect::<BTreeSet<_>>());
    let host = host(dirs, config.as_ref());
    let pinned = in_force.is_some() || status.is_some();
    Ok(Facts {
        kernel: Kernel {
            release: xdp::release(),
            too_old: xdp::check_kernel().err().map(|error| error.to_string()),
            jit: fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok().and_then(|text| text.trim().parse().ok()),
            no_bpffs: pins.as_ref().err().map(chain_of),
            privileged: Uid::effective().is_root(),
        },
        clock: Clock { synchronised: synchronised(), seconds: unix_ms() / 1000 },
        unit,
        versions: Versions {
            own: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            daemon: daemon.map(|daemon| daemon.version.clone()),
            replaced: daemon.and_then(|daemon| is_replaced(daemon.pid)),
            program: daemon.and_then(|daemon| daemon.program.clone()),
            loading: daemon.is_some_and(|daemon| daemon.loading),
            pinned,
            others: others(pins.as_ref().ok()),
        },
        configuration: Configuration {
            file: file.display().to_string(),
            read: read.map(|read| read.map(|config| config.text)),
            in_force,
            named,
        },
        daemon: Daemon { pid: daemon.map(|daemon| daemon.pid), why, pinned, headline: status.as_ref().map(headline) },
        limits: Limits {
            descriptors: daemon.and_then(|daemon| descriptors(daemon.pid)),
            nat: status.as_ref().and_then(|status| {
                let nat = status.nat.as_ref()?;
                Some((nat.flows.into(), nat.room.into()))
            }),
        },
        ways: status.as_ref().map(|status| ways(status, host.as_ref())).unwrap_or_default(),
        vips: Vips {
            all: config.iter().flat_map(|config| &config.services).flat_map(|service| service.vips.clone()).collect(),
            announced: config.as_ref().map(takedown::announced).unwrap_or_default(),
            own: addresses,
            daemon: daemon.is_some(),
        },
        decap: Decap {
            interfaces: decapsulations(&dirs.pin_dir, pins.as_ref().ok()),
            unprobed: daemon.and_then(|daemon| daemon.probes.clone()),
        },
        host: Host {
            interfaces: config.as_ref().map(interfaces).unwrap_or_default(),
            findings: config.as_ref().zip(host).map(|(config, host)| {
                let host = host.map_err(|error| chain(&error))?;
                Ok(preflight::compare(config, &host))
            }),
        },
    })
}

fn chain_of(error: &crate::bpf::BpfError) -> String {
    chain(error)
}

fn read(file: &Path) -> Option<Result<Config, String>> {
    // An error is not an absence.
    if matches!(file.try_exists(), Ok(false)) {
        return None;
    }
    Some(file::load(file).map_err(|error| error.to_string()))
}

/// Whether the kernel considers the clock synchronised; `None` if it does not answer.
fn synchronised() -> Option<bool> {
    // SAFETY: a struct of integers; zero is a value of each.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: without modes adjtimex only writes the struct, to which the pointer goes for the whole call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result >= 0).then_some(state.status & libc::STA_UNSYNC == 0)
}

async fn unit() -> Unit {
    if !Path::new("/run/systemd/system").exists() {
        return Unit::Unknown("systemd does not run here".to_owned());
    }
    let property = format!("--property={PROPERTIES}");
    match tool::output("systemctl", &["show", "edge.service", &property], PATIENCE, 64 << 10).await {
        Ok(text) => Unit::Shown(properties(&String::from_utf8_lossy(&text))),
        Err(why) => Unit::Unknown(why),
    }
}

/// Whether the file that the process executes was replaced or removed.
fn is_replaced(pid: u32) -> Option<bool> {
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(executable.to_string_lossy().ends_with(" (deleted)"))
}

/// Open file descriptors of a process, and its limit.
fn descriptors(pid: u32) -> Option<(u64, u64)> {
    let used = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    Some((u64::try_from(used).ok()?, soft.parse().unwrap_or(u64::MAX)))
}

fn others(pins: Option<&PinDir>) -> Vec<String> {
    let others = pins.and_then(|pins| pins.others().ok()).unwrap_or_default();
    others.iter().map(|pins| pins.version_dir().display().to_string()).collect()
}

fn host(dirs: &Dirs, config: Option<&Config>) -> Option<Result<preflight::Host, preflight::HostError>> {
    Some(preflight::Host::read(config?, offline::pinned(&dirs.pin_dir)))
}

fn interfaces(config: &Config) -> Vec<Interface> {
    let interface = |interface: &config::Interface| Interface {
        name: interface.name.clone(),
        driver: net::driver(&interface.name).ok(),
        xdp: net::attached_xdp(&interface.name).ok().flatten(),
        generic: interface.mode == AttachMode::Generic,
    };
    config.interfaces.iter().map(interface).collect()
}

fn ways(status: &Status, host: Option<&Result<preflight::Host, preflight::HostError>>) -> Ways {
    let backends = status.pools.iter().flat_map(|pool| &pool.backends).map(|backend| Way {
        backend: backend.name.clone(),
        is_resolved: backend.next_hop.is_some(),
        egress_mtu: host.and_then(|host| host.as_ref().ok()?.egress_mtu(backend.address.parse().ok()?)),
        path_mtu: backend.path_mtu,
        needed_mtu: backend.needed_mtu,
    });
    Ways { backends: backends.collect(), fresh: status.daemon.is_some() }
}

/// The interfaces with pins of a decapsulation, and whether it works.
fn decapsulations(pin_dir: &Path, pins: Option<&PinDir>) -> Vec<(String, Result<String, String>)> {
    let Some(entries) = pins.and_then(|pins| fs::read_dir(pins.version_dir().join("decap")).ok()) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| interface_of(&entry.file_name().to_string_lossy()));
    let look = |name: &str| {
        let pins = DecapPins::new(pin_dir, name).map_err(|error| chain(&error))?;
        let found = xdp::look_at_decap(&pins).map_err(|error| chain(&error))?;
        Ok(format!("{} mode", found.mode.name()))
    };
    names.map(|name| (name.clone(), look(&name))).collect()
}
