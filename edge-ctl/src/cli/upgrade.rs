//! `edge-ctl upgrade`: replaces the running daemon by the installed version.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{args::Dirs, failure::Failure, needed, print_line, print_outcome};
use crate::{
    control::{offline, operations::Outcome, status::Status},
    daemon::client::{Client, ClientError, LATER, SOON},
};

/// Timeout until the new version's program is attached.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(100);

/// Upgrades the daemon. This version's program is tried first: if the kernel refuses the program, or the program fails
/// its rehearsal, nothing changes.
pub(super) async fn upgrade(dirs: &Dirs) -> Result<(), Failure> {
    let before: Status = needed(dirs, "upgrade", LATER).await?.get("/v1/status").await?;
    if let Some(why) = offline::try_program(&dirs.pin_dir).map_err(|error| Failure::offline(error, dirs))? {
        print_line(&format!("the new version starts without a rehearsal: {why}"));
    }
    // Over a new connection: the verifier may have taken longer than the daemon keeps a silent connection open.
    let outcome: Outcome = needed(dirs, "upgrade", LATER).await?.post("/v1/upgrade", &()).await?;
    print_outcome(&outcome);
    let started = |status: &Status| status.daemon.as_ref().map(|daemon| daemon.started);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        sleep(PAUSE).await;
        let status = match Client::connect(&dirs.socket(), SOON).await {
            Ok(mut client) => client.get::<Status>("/v1/status").await,
            Err(error) => Err(error),
        };
        match status {
            Ok(status) if started(&status) != started(&before) => {
                let Some(daemon) = &status.daemon else { continue };
                if let Some(why) = &daemon.program {
                    return Err(Failure::NotUpgraded { why: why.clone() });
                }
                if !daemon.loading {
                    print_line(&format!("version {} runs, and its program is attached", daemon.version));
                    return Ok(());
                }
            }
            Ok(_) | Err(ClientError::Absent { .. } | ClientError::Slow(_) | ClientError::Broken(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::NotUpgraded { why: format!("it is not done after {} s", PATIENCE.as_secs()) })
}
