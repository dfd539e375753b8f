//! The table of docs/differential.md: where the answers may differ, and why.

use crate::{Difference, Outcome};
use std::{fs, path::Path};

/// A line of the table. `*` in a column stands for anything.
struct Row {
    case: String,
    versions: String,
    field: String,
    theirs: String,
    ours: String,
    used: bool,
}

pub struct Allowed {
    rows: Vec<Row>,
}

impl Allowed {
    pub fn read() -> Outcome<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differential.md");
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut rows = Vec::new();
        for line in text.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<String> = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().trim_matches('`').to_string())
                .collect();
            let [case, versions, field, theirs, ours, why] = &cells[..] else {
                return Err(format!("docs/differential.md: six columns, please: {line}"));
            };
            if case == "case" || case.starts_with("--") {
                continue;
            }
            if why.is_empty() {
                return Err(format!("docs/differential.md: why? {line}"));
            }
            rows.push(Row {
                case: case.clone(),
                versions: versions.clone(),
                field: field.clone(),
                theirs: theirs.clone(),
                ours: ours.clone(),
                used: false,
            });
        }
        Ok(Self { rows })
    }

    /// Whether a line explains this.
    pub fn explains(&mut self, d: &Difference) -> bool {
        let mut explained = false;
        for row in &mut self.rows {
            let version = row.versions == "*" || row.versions.split(',').any(|range| {
                match range.trim().split_once('-') {
                    Some((from, to)) => {
                        let from = from.trim().parse::<i16>();
                        let to = to.trim().parse::<i16>();
                        matches!((from, to), (Ok(from), Ok(to)) if (from..=to).contains(&d.version))
                    }
                    None => range.trim().parse() == Ok(d.version),
                }
            });
            let field = format!("{} {}", d.answer, d.field);
            if version
                && matches(&row.case, &d.case)
                && matches(&row.field, field.trim())
                && matches(&row.theirs, &d.theirs)
                && matches(&row.ours, &d.ours)
            {
                row.used = true;
                explained = true;
            }
        }
        explained
    }

    /// A line that nothing needs is a difference that is gone.
    pub fn check_all_used(&self) -> Outcome {
        let stale: Vec<String> = self
            .rows
            .iter()
            .filter(|row| !row.used)
            .map(|row| format!("{} {} {}", row.case, row.versions, row.field))
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        Err(format!(
            "docs/differential.md has lines that nothing needs: {}",
            stale.join("; ")
        ))
    }
}

/// Whether `text` is as `pattern` says, with `*` for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len())
                .filter(|at| text.is_char_boundary(*at))
                .any(|at| matches(rest, &text[at..]))
        }),
    }
}
