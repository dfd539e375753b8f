//! Prints BROKER_CONFIGURATION.md; `cargo xtask gen` writes it.

fn main() {
    print!("{}", ottla_broker::configs::markdown());
}
