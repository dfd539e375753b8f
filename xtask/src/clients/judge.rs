//! What a client's lines amount to.

use super::list::{Case, Client};
use std::collections::BTreeMap;

/// How a client did in a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// It can't, as the list says.
    Skipped,
    /// It fails, as the list says.
    Pending(String),
    Failed(String),
}

/// Judges the lines of a client's program, which was asked to run these cases.
///
/// Each case has to be there exactly once; a skip counts only if the list has it. Lines that belong to no case are findings, too.
pub fn judge(
    client: &Client,
    asked: &[&Case],
    lines: &[String],
) -> (BTreeMap<String, Verdict>, Vec<String>) {
    let mut told: BTreeMap<&str, Vec<Told>> = BTreeMap::new();
    let mut findings = Vec::new();
    for line in lines {
        match parse(line) {
            Some((name, one)) if asked.iter().any(|case| case.name == name) => {
                told.entry(name).or_default().push(one);
            }
            _ => findings.push(format!("{}: not understood: {line}", client.name)),
        }
    }
    let verdicts = asked.iter().map(|case| {
        let told = told.get(case.name.as_str()).map_or(&[][..], Vec::as_slice);
        (case.name.clone(), verdict(client, &case.name, told))
    });
    (verdicts.collect(), findings)
}

enum Told<'a> {
    Ok,
    NotOk(&'a str),
    Skip,
}

fn parse(line: &str) -> Option<(&str, Told<'_>)> {
    if let Some(name) = line.strip_prefix("ok ") {
        Some((name, Told::Ok))
    } else if let Some(name) = line.strip_prefix("skip ") {
        Some((name, Told::Skip))
    } else {
        let (name, why) = line.strip_prefix("not ok ")?.split_once(": ")?;
        Some((name, Told::NotOk(why)))
    }
}

fn verdict(client: &Client, case: &str, told: &[Told]) -> Verdict {
    let failed = |why: &str| Verdict::Failed(why.to_string());
    let (can, pending) = (!client.skip.contains_key(case), client.pending.get(case));
    match (told, pending) {
        ([], _) => failed("it says nothing of it"),
        ([Told::Ok], None) if can => Verdict::Passed,
        ([Told::Ok], None) => failed("it runs, though clients.toml says that the client can't"),
        ([Told::Ok], Some(_)) => failed("it passes, though clients.toml has it as pending"),
        ([Told::Skip], _) if !can => Verdict::Skipped,
        ([Told::Skip], _) => failed("it is skipped, though clients.toml has no reason"),
        ([Told::NotOk(_)], Some(why)) => Verdict::Pending(why.clone()),
        ([Told::NotOk(why)], None) => failed(why),
        _ => failed("it is reported more than once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(skip: &[&str], pending: &[&str]) -> Client {
        let reasons = |names: &[&str]| {
            names
                .iter()
                .map(|name| (name.to_string(), "a reason".to_string()))
                .collect()
        };
        Client {
            name: "c".into(),
            version: "1".into(),
            from: "here".into(),
            program: ("python".into(), "c.py".into()),
            skip: reasons(skip),
            pending: reasons(pending),
        }
    }

    fn run(client: &Client, lines: &[&str]) -> (Verdict, usize) {
        let case = Case {
            name: "a".into(),
            demands: "something".into(),
            stored: None,
            restarts: None,
        };
        let lines: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
        let (verdicts, findings) = judge(client, &[&case], &lines);
        (verdicts["a"].clone(), findings.len())
    }

    fn fails(client: &Client, lines: &[&str]) -> bool {
        matches!(run(client, lines).0, Verdict::Failed(_))
    }

    #[test]
    fn what_a_line_amounts_to() {
        let plain = client(&[], &[]);
        assert_eq!(run(&plain, &["ok a"]), (Verdict::Passed, 0));
        assert!(fails(&plain, &["not ok a: 1, not 2"]));
        assert!(fails(&plain, &[]), "a case that is not reported");
        assert!(
            fails(&plain, &["ok a", "ok a"]),
            "a case that is reported twice"
        );
        assert!(fails(&plain, &["skip a"]), "a skip without a reason");
        assert_eq!(run(&plain, &["ok a", "ok b"]).1, 1, "a case that isn't");
        assert_eq!(run(&plain, &["ok a", "what?"]).1, 1, "a line that isn't");
    }

    #[test]
    fn what_the_list_says_has_to_be_so() {
        let cannot = client(&["a"], &[]);
        assert_eq!(run(&cannot, &["skip a"]).0, Verdict::Skipped);
        assert!(fails(&cannot, &["ok a"]), "it can");
        let pending = client(&[], &["a"]);
        assert_eq!(
            run(&pending, &["not ok a: because"]).0,
            Verdict::Pending("a reason".into())
        );
        assert!(fails(&pending, &["ok a"]), "it is pending no longer");
        assert!(fails(&pending, &["skip a"]));
    }
}
