//! `CONFIGURATION.md`, made from the table.

use super::property::{AppliesTo, Effect, Importance, Kind, Property};
use super::rows::SECTIONS;
use std::fmt::Write;

const HEAD: &str = "\
# Configuration

Ottla takes librdkafka's properties, under the same names and with the same defaults, plus a few of its own. Topic properties set on a
handle's configuration are the defaults of all its topics. An unknown name or a bad value is an error when it is set; properties that don't
go together are an error when the handle is made.

The column *P/C* says whether a property is for producers, consumers or both (`*`). Where nothing else is said, a property does what the
text says. **No effect** means: it is checked and kept, but does nothing, for the reason given. **Refused** means: setting it is an error.

<!-- Made from core/ottla/src/config/rows/ by `cargo xtask gen`; a test compares. -->
";

/// The whole document.
pub fn markdown() -> String {
    let mut text = String::from(HEAD);
    for (title, rows) in SECTIONS {
        let _ = write!(
            text,
            "\n## {title}\n\n| Property | P/C | Range | Default | Importance | Description |\n|---|:-:|---|---|:-:|---|\n"
        );
        for row in rows.iter().filter(|row| !row.hidden) {
            write_row(&mut text, row);
        }
    }
    text
}

fn write_row(text: &mut String, row: &Property) {
    let who = match row.applies_to {
        AppliesTo::Both => "*",
        AppliesTo::Consumer => "C",
        AppliesTo::Producer => "P",
    };
    let importance = match row.importance {
        Importance::High => "high",
        Importance::Medium => "medium",
        Importance::Low => "low",
    };
    let mut description = String::new();
    if row.deprecated {
        description.push_str("**Deprecated.** ");
    }
    match row.kind {
        Kind::Alias(of) => {
            let _ = write!(description, "Another name of `{of}`.");
        }
        _ => description.push_str(row.doc),
    }
    match row.effect {
        Effect::Effective => {}
        Effect::Kept(reason) => {
            let _ = write!(description, " **No effect**: {reason}.");
        }
        Effect::KeptWithWarning(reason) => {
            let _ = write!(
                description,
                " **No effect**, with a warning in the log: {reason}."
            );
        }
        Effect::Refused(reason) => {
            let _ = write!(description, " **Refused**: {reason}.");
        }
    }
    let _ = write!(description, " *Type: {}*", row.kind_name());
    let cells = [
        row.name,
        who,
        &row.range(),
        row.default,
        importance,
        &description,
    ]
    .map(|cell| cell.replace('|', "\\|"));
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../CONFIGURATION.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == super::markdown(), "run `cargo xtask gen`");
    }
}
