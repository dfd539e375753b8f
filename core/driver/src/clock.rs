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
///
/// Producing reads the clock for every record, so this is plain arithmetic on one system clock.
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

#[cold]
fn read_wall_clock(mono_us: u64) {
    let wall_us = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    };
    DIFFERENCE_US.store(wall_us - mono_us as i64, Relaxed);
    MEASURED_US.store(mono_us, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_go_on() {
        let first = now();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = now();
        assert!(second.mono_us - first.mono_us >= 20_000);
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis() as i64;
        assert!(
            (wall - second.wall_ms).abs() < 1000,
            "{wall} {}",
            second.wall_ms
        );
    }
}
