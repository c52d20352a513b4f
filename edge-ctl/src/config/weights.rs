//! Weights set by operators, in place of the file's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Backend, Config, configured_backend};

/// Weights by the backend's name in the file, `POOL/BACKEND`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Weights(BTreeMap<String, WeightWord>);

/// The weight that an operator has set for a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WeightWord {
    /// 1 to 65,535.
    pub weight: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Weights {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, backend: &str) -> Option<&WeightWord> {
        self.0.get(backend)
    }

    /// Sets a weight; `None` restores the file's.
    pub(crate) fn set(&mut self, backend: &str, word: Option<WeightWord>) {
        match word {
            Some(word) => drop(self.0.insert(backend.to_owned(), word)),
            None => drop(self.0.remove(backend)),
        }
    }

    /// These weights, and those of `others` for further backends.
    pub(crate) fn and(mut self, others: Self) -> Self {
        for (backend, word) in others.0 {
            self.0.entry(backend).or_insert(word);
        }
        self
    }
}

impl Config {
    /// This configuration with `weights` in place of the file's. Weights of unknown backends are left out, and so are
    /// those that equal the file's.
    pub(crate) fn weighted(mut self, weights: &Weights) -> Self {
        let mut kept = Weights::default();
        for pool in &mut self.pools {
            for backend in &mut pool.backends {
                let name = name_in_file(&pool.name, backend);
                let word = weights.get(&name).filter(|word| word.weight != backend.file_weight);
                backend.weight = word.map_or(backend.file_weight, |word| word.weight);
                if let Some(word) = word {
                    kept.set(&name, Some(word.clone()));
                }
            }
        }
        self.weights = kept;
        self
    }

    /// All backends with their names in the file. Where a pool has parts, a backend with two addresses comes twice.
    pub(crate) fn named_backends(&self) -> impl Iterator<Item = (String, &Backend)> {
        self.pools
            .iter()
            .flat_map(|pool| pool.backends.iter().map(|backend| (name_in_file(&pool.name, backend), backend)))
    }

    /// Backends, by their names in the file, whose weight the file changes from `before` without effect, since an
    /// operator's weight stays in force.
    pub(crate) fn overruled<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (String, &'a Backend)> {
        let was: BTreeMap<_, _> = before.named_backends().collect();
        let now: BTreeMap<_, _> = self.named_backends().filter(|(name, _)| self.weights.get(name).is_some()).collect();
        let changed = move |(name, backend): &(String, &Backend)| {
            was.get(name).is_some_and(|was| was.file_weight != backend.file_weight)
        };
        now.into_iter().filter(changed)
    }
}

/// `POOL/BACKEND` in the file, of a backend of the pool or the part of a pool with this name.
fn name_in_file(pool: &str, backend: &Backend) -> String {
    configured_backend(&format!("{pool}/{}", backend.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture::{inventory, two_addresses};

    fn word(weight: u32) -> WeightWord {
        WeightWord { weight, reason: None }
    }

    #[test]
    fn a_word_takes_the_files_place_and_goes_with_its_backend() {
        let config = inventory().config;
        let mut weights = Weights::default();
        weights.set("provider-a/a1", Some(word(20)));
        weights.set("provider-a/shared", Some(word(50)));
        weights.set("provider-x/none", Some(word(7)));
        let weighted = config.clone().weighted(&weights);
        let of = |config: &Config| config.pools[0].backends.iter().map(|backend| backend.weight).collect::<Vec<_>>();
        assert_eq!((of(&config), of(&weighted)), (vec![100, 100, 50], vec![20, 100, 50]));
        assert_eq!(weighted.weights.0.keys().collect::<Vec<_>>(), ["provider-a/a1"], "unchanged weights are left out");
        assert_eq!(weighted.weighted(&Weights::default()), config);
    }

    #[test]
    fn a_differing_file_is_reported_once() {
        let mut weights = Weights::default();
        weights.set("provider-a/a1", Some(word(20)));
        let before = inventory().config.weighted(&weights);
        let mut after = inventory().config;
        after.pools[0].backends[0].file_weight = 70;
        let after = after.weighted(&weights);
        let names = |after: &Config, before: &Config| after.overruled(before).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&after, &before), ["provider-a/a1"]);
        assert_eq!(names(&after, &after), [""; 0]);
    }

    #[test]
    fn both_parts_of_a_pool_have_the_word() {
        let mut weights = Weights::default();
        weights.set("a/a1", Some(word(20)));
        let config = two_addresses().config.weighted(&weights);
        let of_a1 = config.pools.iter().filter(|pool| pool.name.starts_with("a@"));
        assert!(of_a1.flat_map(|pool| &pool.backends).all(|backend| backend.weight == 20));
    }
}
