//! docs/clients.md: the clients, their versions, and what each does, from the lists that the suite holds them to.

use super::list::Lists;
use crate::shell::Outcome;
use std::fmt::Write;

const HEAD: &str = "\
# Clients

Unmodified clients from their registries that run one set of cases against `ottla serve`. The suite (`cargo xtask test clients`)
fails when one of them does not do what stands here. Generated from `tests/clients/cases.toml` and `tests/clients/clients.toml`
(`cargo xtask gen`); how the suite works: [internals/clients.md](internals/clients.md).

";

/// The page.
pub fn text() -> Outcome<String> {
    let lists = Lists::read()?;
    let mut text = HEAD.to_string();
    table(&mut text, &lists).map_err(|e| e.to_string())?;
    Ok(text)
}

fn table(text: &mut String, lists: &Lists) -> std::fmt::Result {
    writeln!(
        text,
        "| client | version | from | cases |\n|---|---|---|---|"
    )?;
    for client in &lists.clients {
        let runs = lists.cases.len() - client.skip.len();
        writeln!(
            text,
            "| {} | {} | {} | {runs} of {} |",
            client.name,
            client.version,
            client.from,
            lists.cases.len()
        )?;
    }
    let names: Vec<&str> = lists.clients.iter().map(|c| c.name.as_str()).collect();
    writeln!(
        text,
        "\n✓ passes, – the client can't (why: below), ✗ pending.\n\n| case | {} |",
        names.join(" | ")
    )?;
    writeln!(text, "|---|{}", "---|".repeat(names.len()))?;
    for case in &lists.cases {
        let cells = lists.clients.iter().map(|client| {
            if client.skip.contains_key(&case.name) {
                "–"
            } else if client.pending.contains_key(&case.name) {
                "✗"
            } else {
                "✓"
            }
        });
        writeln!(
            text,
            "| {} | {} |",
            case.name,
            cells.collect::<Vec<_>>().join(" | ")
        )?;
    }
    writeln!(
        text,
        "\n## What the cases demand\n\n| case | demands |\n|---|---|"
    )?;
    for case in &lists.cases {
        writeln!(text, "| {} | {} |", case.name, case.demands)?;
    }
    writeln!(
        text,
        "\n## What clients can't\n\n| client | case | why |\n|---|---|---|"
    )?;
    for client in &lists.clients {
        for (case, why) in &client.skip {
            writeln!(text, "| {} | {case} | {why} |", client.name)?;
        }
    }
    let pending = lists
        .clients
        .iter()
        .flat_map(|c| c.pending.iter().map(move |p| (c, p)));
    let pending: Vec<_> = pending.collect();
    if !pending.is_empty() {
        writeln!(
            text,
            "\n## Pending\n\n| client | case | why |\n|---|---|---|"
        )?;
        for (client, (case, why)) in pending {
            writeln!(text, "| {} | {case} | {why} |", client.name)?;
        }
    }
    Ok(())
}
