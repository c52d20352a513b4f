//! `evacuate` and `return`: whole pools.

use std::{cmp::Reverse, time::Duration};

use super::{
    NOTICE,
    args::{Dirs, EvacuateArgs},
    failure::Failure,
    many::{self, What},
    print_error, runtime,
    status::status_once,
};
use crate::{
    config::is_meant,
    control::{
        evacuation::{PeakRates, Wanted},
        offline::{self, Evacuate},
        operations::Outcome,
        status::{ServiceStatus, peak_rates},
    },
    daemon::client::{Client, ClientError, LATER, SOON, segment},
};

pub(super) fn evacuate(dirs: &Dirs, args: EvacuateArgs) -> Result<(), Failure> {
    let EvacuateArgs { pools, time, reason, drain, force, dry_run } = args;
    let for_ms = time.map(|time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let mut pools = many::named(dirs, &pools, What::Pools)?;
    let mut peaks = PeakRates::default();
    if pools.len() > 1 || dry_run {
        let status = runtime(false)?.block_on(status_once(dirs, &mut None, false))?;
        last_first(&mut pools, &status.services);
        peaks = peak_rates(&status);
    }
    let what = Evacuate::Leave(Wanted { for_ms, reason, drain, force });
    if dry_run { would(dirs, &pools, &what, &peaks) } else { many::all(&pools, |pool| one(dirs, pool, &what)) }
}

pub(super) fn bring_back(dirs: &Dirs, pools: &[String], dry_run: bool) -> Result<(), Failure> {
    let pools = many::named(dirs, pools, What::Pools)?;
    let what = Evacuate::Return;
    if dry_run {
        would(dirs, &pools, &what, &PeakRates::default())
    } else {
        many::all(&pools, |pool| one(dirs, pool, &what))
    }
}

/// Puts pools that services use last to the front, so that no service moves to a pool that it leaves a moment later.
fn last_first(pools: &mut [String], services: &[ServiceStatus]) {
    let position = |pool: &str| {
        let of = |service: &ServiceStatus| service.pools.iter().position(|name| is_meant(pool, name));
        services.iter().filter_map(of).max()
    };
    pools.sort_by_cached_key(|pool| Reverse(position(pool)));
}

/// Prints the results for each pool if it were done.
fn would(dirs: &Dirs, pools: &[String], what: &Evacuate, peaks: &PeakRates) -> Result<(), Failure> {
    let outcomes = offline::would_evacuate(&dirs.pin_dir, pools, what, peaks);
    outcomes.map_err(|error| Failure::offline(error, dirs))?.iter().for_each(many::print_dry);
    Ok(())
}

fn one(dirs: &Dirs, pool: &str, what: &Evacuate) -> Result<Outcome, Failure> {
    let answer: Result<Outcome, _> = runtime(false)?.block_on(async {
        let mut client = Client::connect_alive(&dirs.socket(), LATER).await?;
        let path = format!("/v1/pools/{}", segment(pool));
        match what {
            Evacuate::Leave(wanted) => client.post(&format!("{path}/evacuate"), wanted).await,
            Evacuate::Return => client.post(&format!("{path}/return"), &()).await,
        }
    });
    match answer {
        Err(ClientError::Absent { .. } | ClientError::Slow(SOON)) => {
            let notify = || print_error(NOTICE);
            let evacuated = offline::evacuate(&dirs.pin_dir, pool, what, notify);
            let mut outcome = evacuated.map_err(|error| Failure::offline(error, dirs))?;
            if matches!(what, Evacuate::Leave(Wanted { for_ms: Some(_), .. })) {
                outcome.warnings.push(many::ENDED_LATER.to_owned());
            }
            Ok(outcome)
        }
        answer => Ok(answer?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        fixture::{FakeDataPlane, inventory},
        status::{Clock, Sample, build},
    };

    #[test]
    fn the_pools_that_services_use_last_are_evacuated_first() {
        let inventory = inventory();
        let plane = FakeDataPlane::fresh(&inventory);
        let now = Sample::take(&inventory, &plane, Clock::now());
        let services = build(&inventory, &plane, None, &now, None).services;
        for given in [["provider-a", "provider-b"], ["provider-b", "provider-a"]] {
            let mut pools = given.map(str::to_owned);
            last_first(&mut pools, &services);
            assert_eq!(pools, ["provider-b", "provider-a"]);
        }
    }
}
