//! `evacuate` and `return`: whole pools.

use std::time::Duration;

use super::{
    NOTICE,
    args::{Dirs, EvacuateArgs},
    failure::Failure,
    many, print_error, print_outcome, runtime,
};
use crate::{
    control::{
        evacuation::Wanted,
        offline::{self, Evacuate},
        operations::Outcome,
    },
    daemon::client::{Client, ClientError, LATER, SOON, segment},
};

pub(super) fn evacuate(dirs: &Dirs, args: EvacuateArgs) -> Result<(), Failure> {
    let EvacuateArgs { pool, time, reason, drain, force, dry_run } = args;
    let for_ms = time.map(|time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    carry_out(dirs, &pool, &Evacuate::Leave(Wanted { for_ms, reason, drain, force }), dry_run)
}

pub(super) fn bring_back(dirs: &Dirs, pool: &str, dry_run: bool) -> Result<(), Failure> {
    carry_out(dirs, pool, &Evacuate::Return, dry_run)
}

fn carry_out(dirs: &Dirs, pool: &str, what: &Evacuate, dry_run: bool) -> Result<(), Failure> {
    let offline = |error| Failure::offline(error, dirs);
    if dry_run {
        many::print_dry(&offline::would_evacuate(&dirs.pin_dir, pool, what).map_err(offline)?);
        return Ok(());
    }
    let answer: Result<Outcome, _> = runtime(false)?.block_on(async {
        let mut client = Client::connect_alive(&dirs.socket(), LATER).await?;
        let path = format!("/v1/pools/{}", segment(pool));
        match what {
            Evacuate::Leave(wanted) => client.post(&format!("{path}/evacuate"), wanted).await,
            Evacuate::Return => client.post(&format!("{path}/return"), &()).await,
        }
    });
    let outcome = match answer {
        Err(ClientError::Absent { .. } | ClientError::Slow(SOON)) => {
            let notify = || print_error(NOTICE);
            let mut outcome = offline::evacuate(&dirs.pin_dir, pool, what, notify).map_err(offline)?;
            if matches!(what, Evacuate::Leave(Wanted { for_ms: Some(_), .. })) {
                outcome.warnings.push(many::ENDED_LATER.to_owned());
            }
            outcome
        }
        answer => answer?,
    };
    print_outcome(&outcome);
    Ok(())
}
