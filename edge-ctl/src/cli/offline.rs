//! Without the daemon: the same questions and operations on the pinned maps themselves.

use std::{collections::BTreeMap, thread, time::Duration};

use super::{
    args::Dirs,
    failure::Failure,
    flows::{self, Listing, Wanted},
};
use crate::{
    daemon::{
        self,
        api::chain,
        events::Events,
        inventory::Inventory,
        operate::{self, OperateError, Operation, Outcome},
        status::{self, Clock, Sample, Status},
    },
    kernel::{Kernel, KernelError, LockError, PinDir, WriterLock, monotonic_time},
};

/// How long rates are told over where there is no earlier sample.
const GLANCE: Duration = Duration::from_millis(500);

/// Said on standard error before anything is done here.
const NOTICE: &str = "edge-ctl: the daemon does not answer; working on the pinned maps directly";

/// Status as the maps tell it. `tell`: say so on standard error.
/// `earlier` is the sample to tell rates from, and becomes the present one.
pub(crate) fn status(dirs: &Dirs, earlier: &mut Option<Sample>, tell: bool) -> Result<Status, Failure> {
    let (inventory, mut kernel) = open(dirs)?;
    if tell {
        eprintln!("{NOTICE}");
    }
    kernel.glance()?;
    if earlier.is_none() {
        *earlier = Some(Sample::take(&inventory, &kernel, Clock::now()));
        thread::sleep(GLANCE);
    }
    let now = Sample::take(&inventory, &kernel, Clock::now());
    let status = status::build(&inventory, &kernel, earlier.as_ref(), &now, None);
    *earlier = Some(now);
    Ok(status)
}

/// The flow records. These are the packet path's own, so the daemon is not asked, and nothing is locked.
pub(crate) fn flows(dirs: &Dirs, wanted: Wanted<'_>) -> Result<Listing, Failure> {
    let (inventory, kernel) = open(dirs)?;
    let records = kernel.flows()?;
    Ok(flows::list(&inventory, &records, wanted, monotonic_time()).map_err(OperateError::Name)?)
}

/// Does what an operator asks for. A daemon that starts later adopts it.
pub(crate) fn operate(dirs: &Dirs, operation: &Operation) -> Result<Outcome, Failure> {
    let _lock = lock(dirs)?;
    let (inventory, mut kernel) = open(dirs)?;
    eprintln!("{NOTICE}");
    let states: BTreeMap<_, _> = inventory.known().map(|known| (known.number, kernel.state(known.number))).collect();
    let health = |backend| operate::health_of(states.get(&backend).copied().unwrap_or_default());
    Ok(operate::operate(&inventory, &mut kernel, health, &Events::new(), operation)?)
}

/// Takes everything down: announced addresses, links, programs and maps.
pub(crate) async fn detach(dirs: &Dirs) -> Result<Outcome, Failure> {
    let _lock = lock(dirs)?;
    let (announced, warnings) = match open(dirs) {
        Ok((inventory, _)) => (daemon::announced(&inventory.config), Vec::new()),
        Err(nothing @ Failure::NothingThere { .. }) => return Err(nothing),
        // Maps that can't be read must not keep anyone from taking them down.
        Err(unreadable) => {
            let why = chain(&unreadable);
            (Vec::new(), vec![format!("announced VIPs, if any, stay on their interfaces: {why}")])
        }
    };
    let pins = PinDir::new(&dirs.pin_dir)?;
    eprintln!("{NOTICE}");
    Ok(daemon::detach(&pins, &announced, warnings).await?)
}

fn open(dirs: &Dirs) -> Result<(Inventory, Kernel), Failure> {
    let nothing = || Failure::nothing_there(&dirs.socket(), &dirs.pin_dir);
    let pins = PinDir::new(&dirs.pin_dir).map_err(|error| match error {
        KernelError::NotBpffs { .. } => nothing(),
        other => other.into(),
    })?;
    let kernel = Kernel::open(&pins)?.ok_or_else(nothing)?;
    let snapshot = kernel.snapshot()?.ok_or_else(nothing)?;
    Ok((Inventory::from_snapshot(&snapshot)?, kernel))
}

fn lock(dirs: &Dirs) -> Result<WriterLock, Failure> {
    daemon::lock(&dirs.run_dir).map_err(|error| match error {
        LockError::Held { pid } => Failure::Deaf { pid, socket: dirs.socket() },
        error @ LockError::File { .. } => Failure::Lock(error),
    })
}
