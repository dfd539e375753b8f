//! Deterministic simulation: one broker, its clients, a network, a disk and a clock, all out of one seed.
//!
//! [`run`] plays a seed and gives the verdict. `docs/internals/sim.md` tells what is simulated and what is checked.

mod actors;
mod checker;
mod compaction;
mod membership;
mod network;
mod planted;
mod random;
mod sharing;
mod storage;
mod trace;
mod transactions;
mod world;

pub use planted::Bug;
pub use storage::SimStorage;
pub use world::{Options, Outcome, run};

/// Seeds within which a planted bug must be found. Most are by the first; those that need several chances at once by the fiftieth, and
/// which one that is changes with whatever the broker does at another time than before.
pub const PLANTED_SEEDS: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_seeds_pass() {
        for seed in 0..20 {
            let outcome = run(seed, Options::default());
            assert!(
                outcome.violations.is_empty(),
                "seed {seed}: {:#?}",
                outcome.violations
            );
        }
    }

    #[test]
    fn runs_are_repeatable() {
        for seed in 0..3 {
            let again = run(seed, Options::default()).hash;
            assert_eq!(run(seed, Options::default()).hash, again);
        }
    }

    #[test]
    fn planted_bugs_are_found() {
        for bug in Bug::ALL {
            let options = Options {
                planted: Some(bug),
                ..Options::default()
            };
            let fails = |seed: u64, options| !run(seed, options).violations.is_empty();
            let found = (0..PLANTED_SEEDS)
                .any(|seed| fails(seed, options) && !fails(seed, Options::default()));
            assert!(found, "{bug:?} was not found");
        }
    }
}
