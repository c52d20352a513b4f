//! Last answers of a pool's alternatives, which are the other pools of its services. Answers of other services mean
//! little, since their pools may be reached by other routes.

use std::time::Duration;

use super::probed::Probed;
use crate::{control::inventory::Inventory, health::Heard};

/// For each pool, by its position, when most of another pool of its services last answered.
pub(super) fn of_others<'a>(inventory: &Inventory, probed: impl Iterator<Item = &'a Probed>) -> Vec<Heard> {
    let pools = of_pools(inventory, probed);
    let mut others = vec![Heard::default(); pools.len()];
    for service in &inventory.config.services {
        for pool in &service.pools {
            for other in service.pools.iter().filter(|other| *other != pool) {
                let (heard, other) = (&mut others[*pool], pools[*other]);
                *heard = Heard { well: heard.well.max(other.well), at_all: heard.at_all.max(other.at_all) };
            }
        }
    }
    others
}

/// When most of each pool last answered. A backend that is known to be down and is silent does not count.
fn of_pools<'a>(inventory: &Inventory, probed: impl Iterator<Item = &'a Probed>) -> Vec<Heard> {
    let mut answers = vec![(Vec::new(), Vec::new()); inventory.config.pools.len()];
    for probed in probed {
        let machine = probed.machine();
        let is_known = probed.is_out() || machine.is_down_hard();
        if let Some((well, at_all)) = probed.pool.and_then(|pool| answers.get_mut(pool))
            && !(is_known && machine.hushed_since().is_some())
        {
            well.push(machine.answered());
            at_all.push(machine.last_answer());
        }
    }
    answers.into_iter().map(|(well, at_all)| Heard { well: most(well), at_all: most(at_all) }).collect()
}

/// The latest time since which more than half of the backends have answered; `None` if no more than half ever have.
fn most(mut answers: Vec<Option<Duration>>) -> Option<Duration> {
    let middle = answers.len() / 2;
    if answers.is_empty() { None } else { *answers.select_nth_unstable_by(middle, |one, other| other.cmp(one)).1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_have_answered_since_the_middle_one() {
        let at = |second: &u64| (*second > 0).then(|| Duration::from_secs(*second));
        for (answers, expected) in [
            (&[][..], None),
            (&[0], None),
            (&[7], Some(7)),
            (&[7, 9], Some(7)),
            (&[0, 9], None),
            (&[9, 0, 7], Some(7)),
            (&[9, 0, 0], None),
            (&[4, 9, 7, 8], Some(7)),
        ] {
            assert_eq!(most(answers.iter().map(at).collect()), expected.map(Duration::from_secs), "{answers:?}");
        }
    }
}
