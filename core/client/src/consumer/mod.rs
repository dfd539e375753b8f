//! The consumer machine.
pub mod assignors;
