//! Prints CONFIGURATION.md; `cargo xtask gen` writes it.

fn main() {
    print!("{}", ottla::config::document::markdown());
}
