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
                    let missing: Vec<_> = missing(&status).collect();
                    let was_attached = |name: &str| !self::missing(&before).any(|(known, _)| known == name);
                    if let Some((name, why)) = missing.iter().find(|(name, _)| was_attached(name)) {
                        return Err(Failure::NotUpgraded { why: format!("{name} has not its program: {why}") });
                    }
                    let but: Vec<_> = missing.iter().map(|(name, why)| format!(", but not to {name}: {why}")).collect();
                    print_line(&format!(
                        "version {} runs, and its program is attached{}",
                        daemon.version,
                        but.concat()
                    ));
                    return Ok(());
                }
            }
            Ok(_) | Err(ClientError::Absent { .. } | ClientError::Slow(_) | ClientError::Broken(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::NotUpgraded { why: format!("it is not done after {} s", PATIENCE.as_secs()) })
}

/// The interfaces that the program is not known to be attached to, and why.
fn missing(status: &Status) -> impl Iterator<Item = (&str, &str)> {
    let missing = status.interfaces.iter().filter(|interface| interface.attached != Some(true));
    missing.map(|interface| (interface.name.as_str(), interface.why.as_deref().unwrap_or("the reason is not known")))
}
