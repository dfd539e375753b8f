//! The clock reading that is handed to every state machine: time is an argument.

/// A point in time on both clocks, read once per input by whoever drives a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time in microseconds since an arbitrary start. Timeouts are computed from it only.
    pub mono_us: u64,
    /// Wall clock in milliseconds since the Unix epoch, as Kafka's record timestamps and retention use it.
    pub wall_ms: i64,
}

impl Now {
    /// A reading of both clocks.
    pub const fn new(mono_us: u64, wall_ms: i64) -> Self {
        Self { mono_us, wall_ms }
    }

    /// The monotonic time `ms` milliseconds from now, in microseconds. Negative `ms` counts as 0.
    pub const fn after_ms(self, ms: i64) -> u64 {
        let ms = if ms < 0 { 0 } else { ms as u64 };
        self.mono_us.saturating_add(ms.saturating_mul(1000))
    }
}
