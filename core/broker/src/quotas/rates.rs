//! What was used: rates over windows, and the token bucket of changes.
//!
//! Kafka's `SampledStat`, `Rate` and `TokenBucket`.

use alloc::collections::VecDeque;

use crate::config::QuotaWindows;

/// The windows that something is measured over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// How many.
    pub(super) num: u64,
    /// The length of one.
    pub(super) ms: u64,
}

impl From<QuotaWindows> for Windows {
    fn from(windows: QuotaWindows) -> Self {
        Self {
            num: windows.num.max(1).into(),
            ms: u64::from(windows.size_seconds.max(1)) * 1000,
        }
    }
}

impl Windows {
    /// All of them.
    pub(super) fn all_ms(self) -> u64 {
        self.num * self.ms
    }

    /// What a rate of `bound` a second allows in all windows that are full.
    pub(super) fn full(self, bound: f64) -> f64 {
        bound * ((self.num - 1) * self.ms / 1000) as f64
    }

    /// What it allows in all of them.
    fn burst(self, bound: f64) -> f64 {
        bound * (self.all_ms() / 1000) as f64
    }
}

/// What was used in about the time of a window.
#[derive(Clone, Copy, Debug)]
struct Sample {
    start_ms: u64,
    last_ms: u64,
    value: f64,
}

/// A rate over the last windows.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<Sample>,
}

impl Rate {
    /// Counts what is used now.
    pub(super) fn record(&mut self, windows: Windows, now_ms: u64, value: f64) {
        self.forget_old(windows, now_ms);
        match self.samples.back_mut() {
            Some(last) if now_ms.saturating_sub(last.start_ms) < windows.ms => {
                last.value += value;
                last.last_ms = now_ms;
            }
            _ => self.samples.push_back(Sample {
                start_ms: now_ms,
                last_ms: now_ms,
                value,
            }),
        }
    }

    /// Whether nothing was used in all windows.
    pub(super) fn is_idle(&mut self, windows: Windows, now_ms: u64) -> bool {
        self.forget_old(windows, now_ms);
        self.samples.iter().all(|sample| sample.value <= 0.0)
    }

    /// How long to wait for the rate to be `bound` a second: (rate - bound) / bound of the time it is measured over.
    pub(super) fn throttle_ms(&mut self, windows: Windows, now_ms: u64, bound: f64) -> i32 {
        self.forget_old(windows, now_ms);
        let oldest_ms = self
            .samples
            .front()
            .map_or(now_ms, |oldest| oldest.start_ms);
        let elapsed_ms = now_ms.saturating_sub(oldest_ms);
        // What is missing of the windows counts as if nothing had been used in it.
        let missing = (windows.num - 1).saturating_sub(elapsed_ms / windows.ms);
        let window_ms = (elapsed_ms + missing * windows.ms).max(windows.ms) as f64;
        let used: f64 = self.samples.iter().map(|sample| sample.value).sum();
        let rate = used / (window_ms / 1000.0);
        if rate <= bound {
            return 0;
        }
        rounded((rate - bound) / bound * window_ms)
    }

    /// What was used in all windows.
    pub(super) fn used(&self, windows: Windows, now_ms: u64) -> f64 {
        let counts = |sample: &&Sample| now_ms.saturating_sub(sample.last_ms) < windows.all_ms();
        let samples = self.samples.iter().filter(counts);
        samples.map(|sample| sample.value).sum()
    }

    fn forget_old(&mut self, windows: Windows, now_ms: u64) {
        while let Some(oldest) = self.samples.front() {
            if now_ms.saturating_sub(oldest.last_ms) < windows.all_ms() {
                break;
            }
            self.samples.pop_front();
        }
    }
}

/// A token bucket that holds as much as all windows and may be overdrawn once.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    filled_ms: u64,
}

impl Bucket {
    pub(super) fn full(windows: Windows, now_ms: u64, bound: f64) -> Self {
        Self {
            tokens: windows.burst(bound),
            filled_ms: now_ms,
        }
    }

    pub(super) fn take(&mut self, tokens: f64) {
        self.tokens -= tokens;
    }

    /// How long until there is no debt any more.
    pub(super) fn throttle_ms(&mut self, windows: Windows, now_ms: u64, bound: f64) -> i32 {
        let seconds = now_ms.saturating_sub(self.filled_ms) as f64 / 1000.0;
        self.tokens = (self.tokens + seconds * bound).min(windows.burst(bound));
        self.filled_ms = now_ms;
        match self.tokens < 0.0 {
            true => rounded(-self.tokens / bound * 1000.0).max(1),
            false => 0,
        }
    }

    /// Whether a full one would do as well, or nobody asked for an hour.
    pub(super) fn is_idle(&self, windows: Windows, now_ms: u64) -> bool {
        let ms = now_ms.saturating_sub(self.filled_ms);
        ms >= 3_600_000 || (self.tokens >= 0.0 && ms >= windows.all_ms())
    }
}

/// To whole milliseconds, as far as answers can tell them.
fn rounded(ms: f64) -> i32 {
    (ms + 0.5) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kafka's default.
    const W: Windows = Windows { num: 11, ms: 1000 };

    #[test]
    fn a_rate_over_eleven_windows() {
        let mut rate = Rate::default();
        assert!(rate.is_idle(W, 0));
        rate.record(W, 5_000, 1_000.0);
        // Measured over ten seconds at least: 100 a second.
        assert_eq!(rate.throttle_ms(W, 5_000, 100.0), 0);
        rate.record(W, 5_000, 500.0);
        // 150 a second: half of ten seconds more.
        assert_eq!(rate.throttle_ms(W, 5_000, 100.0), 5_000);
        // Half a second later it is 150 / 10.5 s.
        assert_eq!(rate.throttle_ms(W, 5_500, 100.0), 4_500);
        assert_eq!(rate.throttle_ms(W, 15_000, 100.0), 5_000);
        assert!(!rate.is_idle(W, 15_999));
        assert!(rate.is_idle(W, 16_000));
        assert_eq!(rate.throttle_ms(W, 16_000, 100.0), 0);
        assert_eq!(rate.used(W, 16_000), 0.0);
        rate.record(W, 16_000, 10.0);
        assert_eq!(rate.used(W, 26_999), 10.0);
        assert_eq!(rate.used(W, 27_000), 0.0);
        rate.record(W, 16_000, -10.0);
        assert!(rate.is_idle(W, 16_000));
        rate.record(W, 16_000, f64::from(i32::MAX));
        assert_eq!(rate.throttle_ms(W, 16_000, 1e-9), i32::MAX);
    }

    #[test]
    fn a_bucket_is_overdrawn_once() {
        let mut bucket = Bucket::full(W, 0, 2.0);
        bucket.take(22.0);
        assert_eq!(bucket.throttle_ms(W, 0, 2.0), 0);
        bucket.take(3.0);
        assert_eq!(bucket.throttle_ms(W, 0, 2.0), 1_500);
        assert_eq!(bucket.throttle_ms(W, 1_000, 2.0), 500);
        assert_eq!(bucket.throttle_ms(W, 1_500, 2.0), 0);
        assert!(!bucket.is_idle(W, 1_500));
        assert!(bucket.is_idle(W, 12_500));
    }

    #[test]
    fn other_windows() {
        let two = Windows::from(QuotaWindows {
            num: 2,
            size_seconds: 5,
        });
        assert_eq!(two.full(3.0), 15.0);
        let mut rate = Rate::default();
        rate.record(two, 0, 20.0);
        assert_eq!(rate.throttle_ms(two, 0, 2.0), 5_000);
        assert!(!rate.is_idle(two, 9_999));
        assert!(rate.is_idle(two, 10_000));
        let mut bucket = Bucket::full(two, 0, 1.0);
        bucket.take(12.0);
        assert_eq!(bucket.throttle_ms(two, 0, 1.0), 2_000);
        // One window is measured over all of its length, however short it is running.
        let one = Windows { num: 1, ms: 1000 };
        let mut rate = Rate::default();
        rate.record(one, 0, 4.0);
        assert_eq!(rate.throttle_ms(one, 0, 2.0), 1_000);
    }
}
