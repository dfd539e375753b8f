//! What `kill -9` of `ottla serve` leaves of transactions and share groups.
//!
//! `cargo xtask torture groups` runs more rounds.

#[path = "../long_form/mod.rs"]
mod long_form;
#[allow(dead_code)] // shared with other tests
#[path = "../served/mod.rs"]
mod served;
mod share;
mod transactions;
#[allow(dead_code)]
#[path = "../wire/mod.rs"]
mod wire;
#[allow(dead_code)]
#[path = "../groups/world.rs"]
mod world;
