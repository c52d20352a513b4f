//! Operations on several backends or services, by names or patterns; carried out, or only shown.

use std::collections::BTreeSet;

use glob::Pattern;

use super::{
    NOTICE,
    args::{Dirs, FailoverArgs, Weight, WeightArgs},
    failure::Failure,
    print_error, print_outcome, runtime,
    status::status_once,
};
use crate::{
    config::{configured, configured_backend},
    control::{
        chain,
        change::Weigh,
        offline,
        operations::{Operation, Outcome, Terms},
        status::Status,
    },
    daemon::{
        api::{BackendBody, FailoverBody, HealthBody, HealthWord},
        client::{Client, ClientError, LATER, SOON, segment},
    },
};

/// Warning where a word with an end is given without a daemon.
pub(super) const ENDED_LATER: &str = "no daemon answers: one that runs after that time ends it";

/// The kind of object that names refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Backends,
    Services,
    Pools,
}

/// Carries out `operation` for each of `words`; with `dry_run` only prints the results it would have.
pub(super) fn each(
    dirs: &Dirs,
    words: &[String],
    what: What,
    dry_run: bool,
    operation: impl Fn(String) -> Operation,
) -> Result<(), Failure> {
    let operations: Vec<_> = named(dirs, words, what)?.into_iter().map(operation).collect();
    if dry_run {
        let would = offline::would(&dirs.pin_dir, &operations).map_err(|error| Failure::offline(error, dirs))?;
        would.iter().for_each(print_dry);
        return Ok(());
    }
    all(&operations, |operation| operate(dirs, operation))
}

/// Carries out all operations, and prints their results. A failed one does not prevent the others.
pub(super) fn all<T>(operations: &[T], carry_out: impl Fn(&T) -> Result<Outcome, Failure>) -> Result<(), Failure> {
    let mut failed = None;
    for operation in operations {
        match carry_out(operation) {
            Ok(outcome) => print_outcome(&outcome),
            Err(failure) if failed.is_none() => failed = Some(failure),
            Err(failure) => print_error(&format!("edge-ctl: {}", chain(&failure))),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Prints the result of a dry run, marked as such.
pub(super) fn print_dry(outcome: &Outcome) {
    let message = format!("dry run, nothing is changed: {}", outcome.message);
    print_outcome(&Outcome { message, ..outcome.clone() });
}

/// The names that `words` refer to, each once, in order.
pub(super) fn named(dirs: &Dirs, words: &[String], what: What) -> Result<Vec<String>, Failure> {
    let known = if words.iter().any(|word| is_pattern(word)) { known(dirs, what)? } else { Vec::new() };
    let (mut seen, mut names) = (BTreeSet::new(), Vec::new());
    for word in words {
        let found = if is_pattern(word) { matching(word, &known)? } else { vec![word.clone()] };
        names.extend(found.into_iter().filter(|name| seen.insert(name.clone())));
    }
    Ok(names)
}

fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// The names in `known` that `pattern` matches; a pattern without a slash is compared with the bare names of backends.
fn matching(pattern: &str, known: &[String]) -> Result<Vec<String>, Failure> {
    let bad = |why: String| Failure::Pattern { pattern: pattern.to_owned(), why };
    let compiled = Pattern::new(pattern).map_err(|error| bad(error.msg.to_owned()))?;
    let compared = |name: &str| match name.split_once('/') {
        Some((_, bare)) if !pattern.contains('/') => compiled.matches(bare),
        _ => compiled.matches(name),
    };
    // Parts match only if the pattern has an `@`; otherwise the common name stands for both.
    let names = known.iter().filter(|name| pattern.contains('@') || !name.contains('@'));
    let found: Vec<_> = names.filter(|name| compared(name)).cloned().collect();
    if found.is_empty() { Err(bad("it matches no name; `edge-ctl status` lists them".to_owned())) } else { Ok(found) }
}

fn known(dirs: &Dirs, what: What) -> Result<Vec<String>, Failure> {
    let status = runtime(false)?.block_on(status_once(dirs, &mut None, false))?;
    Ok(match what {
        What::Services => status.services.into_iter().map(|service| service.name).collect(),
        What::Backends => backends(&status),
        What::Pools => pools(&status),
    })
}

/// Names of all pools as in the file, followed by those of parts.
fn pools(status: &Status) -> Vec<String> {
    each_once(status.pools.iter().map(|pool| &*pool.name), |name| configured(name).0)
}

/// The names as in the file, and after them the names themselves, each once.
fn each_once<'a, T: Into<String>>(
    names: impl Iterator<Item = &'a str> + Clone,
    in_file: impl Fn(&'a str) -> T,
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let names = names.clone().map(|name| in_file(name).into()).chain(names.map(str::to_owned));
    names.filter(|name| seen.insert(name.clone())).collect()
}

/// Names (`POOL/BACKEND`) of all backends as in the file, followed by those of parts.
fn backends(status: &Status) -> Vec<String> {
    each_once(status.pools.iter().flat_map(|pool| &pool.backends).map(|backend| &*backend.name), configured_backend)
}

pub(super) fn fail_over(dirs: &Dirs, args: &FailoverArgs) -> Result<(), Failure> {
    let FailoverArgs { services, to, evacuate, time, reason, dry_run } = args;
    let for_ms = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let terms = Terms { reason: reason.clone(), for_ms };
    let operation =
        |service| Operation::Failover { service, to: to.clone(), evacuate: *evacuate, terms: terms.clone() };
    each(dirs, services, What::Services, *dry_run, operation)
}

/// Sets the weight of all backends in one change.
pub(super) fn weigh(dirs: &Dirs, args: WeightArgs) -> Result<(), Failure> {
    let WeightArgs { backends, weight: Weight(weight), reason, dry_run } = args;
    let wanted = Weigh { backends: named(dirs, &backends, What::Backends)?, weight, reason };
    let offline = |error| Failure::offline(error, dirs);
    if dry_run {
        print_dry(&offline::would_weigh(&dirs.pin_dir, &wanted).map_err(offline)?);
        return Ok(());
    }
    let answer = runtime(false)?.block_on(async {
        let mut client = Client::connect_alive(&dirs.socket(), LATER).await?;
        client.post("/v1/weights", &wanted).await
    });
    let outcome = match answer {
        // A weight is a publication: while a hanging daemon holds the lock, it fails with the daemon's PID.
        Err(ClientError::Absent { .. } | ClientError::Slow(SOON)) => {
            offline::weigh(&dirs.pin_dir, &wanted, || print_error(NOTICE)).map_err(offline)?
        }
        answer => answer?,
    };
    print_outcome(&outcome);
    Ok(())
}

fn operate(dirs: &Dirs, operation: &Operation) -> Result<Outcome, Failure> {
    let answer = runtime(false)?.block_on(async {
        let mut client = Client::connect(&dirs.socket(), SOON).await?;
        post(&mut client, operation).await
    });
    match answer {
        // The deadline keeps a slow daemon from carrying the request out later.
        Err(ClientError::Absent { .. } | ClientError::Slow(_)) => {
            let notify = || print_error(NOTICE);
            let done = offline::operate(&dirs.pin_dir, operation, notify);
            let mut outcome = done.map_err(|error| Failure::offline(error, dirs))?;
            if matches!(operation, Operation::Failover { terms: Terms { for_ms: Some(_), .. }, .. }) {
                outcome.warnings.push(ENDED_LATER.to_owned());
            }
            Ok(outcome)
        }
        answer => Ok(answer?),
    }
}

async fn post(client: &mut Client, operation: &Operation) -> Result<Outcome, ClientError> {
    let (verb, backend, reason) = match operation {
        Operation::Drain { backend, reason } => ("drain", backend, reason),
        Operation::Enable { backend, reason } => ("enable", backend, reason),
        Operation::Disable { backend, reason } => ("disable", backend, reason),
        Operation::Health { backend, health, reason } => {
            let body = HealthBody { health: HealthWord::of(*health), reason: reason.clone() };
            return client.post(&format!("/v1/backends/{}/health", path_of(backend)), &body).await;
        }
        Operation::Failover { service, to, evacuate, terms: Terms { reason, for_ms } } => {
            let path = format!("/v1/services/{}/failover", segment(service));
            let (to, reason) = (to.clone(), reason.clone());
            let body = FailoverBody { to, evacuate: *evacuate, reason, for_ms: *for_ms };
            return client.post(&path, &body).await;
        }
        Operation::Failback { service } => {
            return client.post(&format!("/v1/services/{}/failback", segment(service)), &()).await;
        }
    };
    let path = format!("/v1/backends/{}/{verb}", path_of(backend));
    client.post(&path, &BackendBody { reason: reason.clone() }).await
}

fn path_of(backend: &str) -> String {
    match backend.split_once('/') {
        Some((pool, backend)) => format!("{}/{}", segment(pool), segment(backend)),
        None => segment(backend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        fixture::{FakeDataPlane, inventory, two_addresses},
        status::{self, Clock, Sample},
    };

    #[test]
    fn patterns_are_compared_with_the_names_that_verbs_take() {
        for (inventory, expected) in [(inventory(), "provider-a/a1"), (two_addresses(), "a/a1")] {
            let plane = FakeDataPlane::fresh(&inventory);
            let now = Sample::take(&inventory, &plane, Clock::now());
            let status = status::build(&inventory, &plane, None, &now, None);
            let known = backends(&status);
            assert_eq!(known[0], expected);
            assert!(known.iter().all(|name| inventory.backend(name).is_ok()), "{known:?}");
            let pools = pools(&status);
            assert!(
                expected.starts_with(&pools[0]) && pools.iter().all(|name| inventory.pool(name).is_ok()),
                "{pools:?}"
            );
        }
    }

    #[test]
    fn a_pattern_is_compared_with_full_names_or_bare_ones() {
        let known = ["a/a1", "a/a2", "b/b1", "b/a1"].map(str::to_owned);
        for (pattern, expected) in [
            ("a/*", &["a/a1", "a/a2"][..]),
            ("*1", &["a/a1", "b/b1", "b/a1"]),
            ("*/a1", &["a/a1", "b/a1"]),
            ("?2", &["a/a2"]),
        ] {
            assert_eq!(matching(pattern, &known).unwrap(), expected, "{pattern}");
        }
        for wrong in ["c/*", "[a"] {
            assert!(matches!(matching(wrong, &known), Err(Failure::Pattern { .. })), "{wrong}");
        }
        let parts = ["a/a1", "a@ipv4/a1", "a@ipv6/a1"].map(str::to_owned);
        assert_eq!(matching("a/*", &parts).unwrap(), ["a/a1"]);
        assert_eq!(matching("*@ipv6/*", &parts).unwrap(), ["a@ipv6/a1"]);
        let services = ["web", "web-2", "dns"].map(str::to_owned);
        assert_eq!(matching("web*", &services).unwrap(), ["web", "web-2"]);
    }
}
