//! What a rig says while it runs and when it is done.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// The result of a rig.
#[derive(Default)]
pub struct Report {
    /// What was run: lines of the ledger.
    pub ran: Vec<Ran>,
    /// What went wrong, a line each.
    pub found: Vec<String>,
    /// Why nothing was run.
    pub skipped: Option<String>,
}

/// A line of the ledger.
pub struct Ran {
    /// The rig, with what tells its parts apart, such as `power xfs`.
    pub rig: String,
    /// How many.
    pub count: u64,
    /// Of what: `rounds`.
    pub unit: &'static str,
    /// How many of them found something.
    pub found: u64,
    /// What else there is to know: what the control showed, sizes, seeds.
    pub note: String,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rig,
            count,
            unit,
            found,
            note,
        } = self;
        write!(f, "ledger: {rig} | {count} {unit} | {found} | {note}")
    }
}

impl Report {
    /// Adds what went wrong, and tells it at once.
    pub fn found(&mut self, where_: &str, wrong: Vec<String>) {
        const SHOWN: usize = 5;
        let more = wrong.len().saturating_sub(SHOWN);
        for what in wrong.into_iter().take(SHOWN) {
            eprintln!("FOUND {where_}: {what}");
            self.found.push(format!("{where_}: {what}"));
        }
        if more > 0 {
            eprintln!("      and {more} more");
        }
    }
}

/// Tells how far a rig is, every few seconds.
pub struct Progress {
    what: String,
    total: u64,
    start: Instant,
    told: Instant,
    until: Option<Instant>,
}

impl Progress {
    /// Begins; `minutes` is the time after which [`Progress::goes_on`] says no.
    pub fn new(what: impl Into<String>, total: u64, minutes: Option<u64>) -> Self {
        let start = Instant::now();
        Self {
            what: what.into(),
            total,
            start,
            told: start,
            until: minutes.map(|minutes| start + Duration::from_secs(60 * minutes)),
        }
    }

    /// Whether round `done` (from 0) is still to be run.
    pub fn goes_on(&mut self, done: u64, report: &Report) -> bool {
        if self.told.elapsed() > Duration::from_secs(5) {
            self.told = Instant::now();
            let (what, found) = (&self.what, report.found.len());
            match self.total {
                u64::MAX => eprintln!("{what}: {done}, {found} found"),
                total => {
                    let per_round = self.start.elapsed().as_secs_f64() / done.max(1) as f64;
                    let left = per_round * total.saturating_sub(done) as f64;
                    eprintln!("{what}: {done} of {total}, {found} found, {left:.0} s to go");
                }
            }
        }
        done < self.total && self.until.is_none_or(|until| Instant::now() < until)
    }

    /// Tells where it is, if it is time to.
    pub fn tell(&mut self, where_: &str, report: &Report) {
        if self.told.elapsed() > Duration::from_secs(5) {
            self.told = Instant::now();
            eprintln!("{}: {where_}, {} found", self.what, report.found.len());
        }
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
