//! What happened in a run: a hash of it always, its text if wanted.

use std::fmt::{self, Write};

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// The lines, if they are kept.
    pub lines: Option<Vec<String>>,
}

struct Hasher<'a>(&'a mut u64);

impl Write for Hasher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    /// An empty one that keeps its lines or not.
    pub fn new(keep: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: keep.then(Vec::new),
        }
    }

    /// Adds a line at a time in microseconds.
    pub fn line(&mut self, now_us: u64, what: fmt::Arguments<'_>) {
        let _ = write!(Hasher(&mut self.hash), "{now_us} {what};");
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.6} {what}", now_us as f64 / 1e6));
        }
    }

    /// FNV-1a over all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}
