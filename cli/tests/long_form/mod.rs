//! What the long forms of `cargo xtask torture groups` have in common: how long they run, what is drawn by lot, what they tell
//! meanwhile, and the control that must fail.

use std::{
    panic::{UnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// How long a run is, and what it begins with.
#[derive(Clone, Copy)]
pub struct Extent {
    pub rounds: u64,
    /// No round begins after so much time.
    pub time: Duration,
    pub seed: u64,
}

impl Extent {
    /// As the environment says: `OTTLA_ROUNDS`, `OTTLA_MINUTES` (without both, so many rounds), `OTTLA_SEED`.
    pub fn of_environment(rounds: u64) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            let number = text.parse::<u64>();
            Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
        };
        let minutes = number("OTTLA_MINUTES");
        let extent = Self {
            rounds: number("OTTLA_ROUNDS").unwrap_or(minutes.map_or(rounds, |_| u64::MAX)),
            time: minutes.map_or(Duration::MAX, |minutes| Duration::from_secs(60 * minutes)),
            seed: number("OTTLA_SEED").unwrap_or(1),
        };
        assert!(extent.rounds > 0 && !extent.time.is_zero(), "nothing to do");
        extent
    }

    /// So many rounds, however long they take.
    pub fn rounds(rounds: u64, seed: u64) -> Self {
        Self {
            rounds,
            time: Duration::MAX,
            seed,
        }
    }
}

/// Numbers by lot, the same ones for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// The rounds of a run, and where it is in them.
pub struct Rounds {
    what: &'static str,
    extent: Extent,
    begun: Instant,
    done: u64,
    told: Instant,
}

impl Rounds {
    pub fn begin(what: &'static str, extent: Extent) -> Self {
        let now = Instant::now();
        Self {
            what,
            extent,
            begun: now,
            done: 0,
            told: now,
        }
    }

    /// The number of the next round, from 1 on, if there is one.
    pub fn next(&mut self) -> Option<u64> {
        let first = self.done == 0;
        let goes_on = self.done < self.extent.rounds && self.begun.elapsed() < self.extent.time;
        (first || goes_on).then(|| {
            self.done += 1;
            self.done
        })
    }

    pub fn done(&self) -> u64 {
        self.done
    }

    pub fn seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// Says how far it is, every few seconds.
    pub fn tell(&mut self, more: &str) {
        const PAUSE: Duration = Duration::from_secs(5);
        if self.told.elapsed() >= PAUSE {
            self.told = Instant::now();
            let (what, done, seconds) = (self.what, self.done, self.seconds());
            match self.extent.rounds {
                u64::MAX => eprintln!("{what}: round {done}, {seconds} s: {more}"),
                all => eprintln!("{what}: round {done} of {all}, {seconds} s: {more}"),
            }
        }
    }
}

/// Runs what must not hold, since the broker was made to be wrong: it has to be noticed, and for one of the right reasons.
pub fn control(what: &str, reasons: &[&str], wrong: impl FnOnce() + UnwindSafe) {
    eprintln!("{what}: the control, which has to panic:");
    let Err(panic) = catch_unwind(wrong) else {
        panic!("{what}: a broker that forgets is not noticed");
    };
    let said = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(said), _) => said.as_str(),
        (None, said) => said.copied().unwrap_or_default(),
    };
    assert!(
        reasons.iter().any(|reason| said.contains(reason)),
        "{what}: the control failed for another reason: {said}"
    );
    eprintln!("{what}: the control is caught");
}
