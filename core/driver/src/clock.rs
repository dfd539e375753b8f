//! Both clocks in one reading.

use ottla_record::Now;
use rustix::time::{ClockId, clock_gettime};
use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

/// How long the wall clock is derived from the monotonic one before it is read again: it may be set meanwhile.
const WALL_CLOCK_FOR_US: u64 = 10_000;

/// Wall clock minus monotonic clock, in microseconds, and when it was measured. The two need not be of one reading: both are
/// nearly constant.
static DIFFERENCE_US: AtomicI64 = AtomicI64::new(0);
static MEASURED_US: AtomicU64 = AtomicU64::new(0);

/// Now, on both clocks. The wall clock is read every 10 ms and derived from the monotonic one in between.
#[inline]
pub fn now() -> Now {
    let time = clock_gettime(ClockId::Monotonic);
    let mono_us = time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000;
    if mono_us - MEASURED_US.load(Relaxed).min(mono_us) >= WALL_CLOCK_FOR_US {
        read_wall_clock(mono_us);
    }
    Now::new(
        mono_us,
        (mono_us as i64 + DIFFERENCE_US.load(Relaxed)) / 1000,
    )
}

/// A number that changes every few milliseconds: cheaper than a time.
#[inline]
pub(crate) fn tick() -> u64 {
    #[cfg(target_os = "linux")]
    let time = clock_gettime(ClockId::MonotonicCoarse);
    #[cfg(not(target_os = "linux"))]
    let time = clock_gettime(ClockId::Monotonic);
    // Nanoseconds in steps of a millisecond, which no tick is shorter than; never 0.
    ((time.tv_sec as u64) << 32 | (time.tv_nsec as u64) >> 20) + 1
}

#[cold]
fn read_wall_clock(mono_us: u64) {
    let wall_us = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    };
    DIFFERENCE_US.store(wall_us - mono_us as i64, Relaxed);
    MEASURED_US.store(mono_us, Relaxed);
}

/// Calls of [`RunClock::now`] that share one reading, at most.
const RUN: u32 = 16;
/// Readings that are no further apart than this belong to a run.
const RUN_US: u64 = 10;

/// The clock for calls that may follow each other in fractions of a microsecond, as those of `produce()` do.
///
/// Reading the clock takes 20 ns, a sixth of what producing a small record takes. So up to [`RUN`] calls share a reading while
/// the readings are at most [`RUN_US`] apart, and while the system's coarse clock (5 ns; it advances with the timer's tick)
/// stands still. The time is then late by microseconds; where a run breaks off, by less than one tick (1 to 10 ms).
#[derive(Default)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) struct RunClock {
    last: Now,
    tick: u64,
    left: u32,
}

impl RunClock {
    /// Now, or a little earlier.
    #[cfg(target_os = "linux")]
    #[inline]
    pub(crate) fn now(&mut self) -> Now {
        let coarse = clock_gettime(ClockId::MonotonicCoarse);
        let tick = ((coarse.tv_sec as u64) << 32) | coarse.tv_nsec as u64;
        if self.left > 0 && tick == self.tick {
            self.left -= 1;
            return self.last;
        }
        let now = now();
        let is_run = now.mono_us.saturating_sub(self.last.mono_us) <= RUN_US;
        *self = Self {
            last: now,
            tick,
            left: if is_run { RUN - 1 } else { 0 },
        };
        now
    }

    /// Now: other systems have no clock that is cheaper than the exact one.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn now(&mut self) -> Now {
        now()
    }

    /// The next call reads the clock. For whoever has gone by the exact time, so that it doesn't go back.
    pub(crate) fn end_run(&mut self) {
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_shares_readings_and_ends_with_the_tick() {
        let mut clock = RunClock::default();
        let (mut previous, mut late) = (clock.now(), 0);
        for _ in 0..10_000 {
            let before = now().mono_us;
            let time = clock.now();
            assert!(time.mono_us >= previous.mono_us);
            // A tick is 10 ms at most; this thread may be put aside between the readings.
            late += u32::from(time.mono_us + 10_000 < before);
            previous = time;
        }
        // A virtual machine may be put aside as a whole, and its tick comes late then: for the rest of that run.
        assert!(late <= 3 * RUN, "{late} readings");
        std::thread::sleep(std::time::Duration::from_millis(20));
        let before = now().mono_us;
        assert!(clock.now().mono_us >= before, "a pause ends a run");
    }

    #[test]
    fn both_clocks_go_on() {
        let first = now();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let wall = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            since.as_millis() as i64
        };
        let before = wall();
        let second = now();
        // This thread may be put aside in between.
        let around = before - 1000..wall() + 1000;
        assert!(second.mono_us - first.mono_us >= 20_000);
        assert!(around.contains(&second.wall_ms), "{second:?} {around:?}");
    }
}
