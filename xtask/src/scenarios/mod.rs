//! `cargo xtask test scenarios`: one list of scenarios, run from every language and mixed.
//!
//! Each language writes every scenario into directories of its own; then each reads what each has written. After that each runs
//! every scenario alone, in memory. Last comes the control: a list with wrong expectations, all of which must be reported.

mod judge;
mod list;
mod log;
mod plan;

use crate::{
    install_c, packages, setup,
    shell::{Outcome, cargo, root, run, run_quietly, target_dir},
};
use judge::Answers;
use list::{Language, Scenario};
use log::Log;
use plan::Part;
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long an interpreter may take for all scenarios of one part.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the suite.
pub fn suite() -> Outcome {
    let scenarios = list::read(&root().join("tests/scenarios/scenarios.toml"))?;
    let control = list::read(&root().join("tests/scenarios/control.toml"))?;
    let dir = target_dir().join("scenarios");
    let interpreters = build(&dir)?;
    let suite = Suite {
        dir,
        interpreters,
        started: now_ms(),
    };
    let begun = Instant::now();
    let mut findings = suite.mixed(&scenarios)?;
    findings.extend(suite.alone(&scenarios)?);
    let missed = suite.control(&control)?;
    summary(&scenarios, begun.elapsed());
    findings.extend(missed);
    report(&scenarios, &findings);
    match findings.len() {
        0 => Ok(()),
        n => Err(format!("{n} differences")),
    }
}

/// Says what was run, and what was left out and why.
fn summary(scenarios: &[Scenario], took: Duration) {
    let takes = |scenario: &Scenario, writer, reader| {
        !scenario.not_written_by.contains(&writer) && !scenario.not_read_by.contains(&reader)
    };
    let pairs = || {
        Language::ALL
            .into_iter()
            .flat_map(|w| Language::ALL.map(|r| (w, r)))
    };
    let mixed: usize = scenarios
        .iter()
        .map(|s| pairs().filter(|&(w, r)| takes(s, w, r)).count())
        .sum();
    let alone: usize = scenarios
        .iter()
        .map(|s| Language::ALL.iter().filter(|&&l| takes(s, l, l)).count())
        .sum();
    println!(
        "{} scenarios: {mixed} times written by one language and read by one, {alone} times in memory, in {:.0} s",
        scenarios.len(),
        took.as_secs_f64()
    );
    for scenario in scenarios {
        if let Some(why) = &scenario.why {
            println!("  left out in part: {}: {why}", scenario.name);
        }
    }
}

/// Prints what differs; before the first difference of a scenario, what it is to prove.
fn report(scenarios: &[Scenario], findings: &[String]) {
    for scenario in scenarios {
        let of = |finding: &&String| finding.split(' ').next() == Some(&scenario.name);
        let mut found = findings.iter().filter(of).peekable();
        if found.peek().is_some() {
            println!("{}: {}", scenario.name, scenario.proves);
            found.for_each(|finding| println!("  {finding}"));
        }
    }
    let named = |finding: &&String| {
        scenarios
            .iter()
            .any(|s| finding.split(' ').next() == Some(&s.name))
    };
    let others = findings.iter().filter(|finding| !named(finding));
    others.for_each(|finding| println!("{finding}"));
}

/// The program and arguments of each interpreter.
type Interpreters = BTreeMap<Language, Vec<PathBuf>>;

fn build(dir: &Path) -> Outcome<Interpreters> {
    setup::c_compiler()?;
    let prefix = target_dir().join("test/prefix");
    install_c::install(&prefix)?;
    let python = packages::python_with_wheel()?;
    packages::build_node_addon()?;
    run(cargo().args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "ottla-scenarios",
    ]))?;
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let c = dir.join("run-c");
    run_quietly(&mut install_c::compiler_with_rpath(
        &prefix,
        &["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"],
        "tests/scenarios/c/run.c",
        &c,
    ))?;
    // Where `import 'ottla'` finds the package as an installed one would be found.
    let node = dir.join("run.mjs");
    fs::copy(root().join("tests/scenarios/node/run.mjs"), &node)
        .map_err(|e| format!("{}: {e}", node.display()))?;
    packages::link_node_package(&dir.join("node_modules"))?;
    Ok([
        (
            Language::Rust,
            vec![target_dir().join("release/ottla-scenarios")],
        ),
        (Language::C, vec![c]),
        (
            Language::Python,
            vec![python, root().join("tests/scenarios/python/run.py")],
        ),
        (Language::Node, vec!["node".into(), node]),
    ]
    .into())
}

struct Suite {
    dir: PathBuf,
    interpreters: Interpreters,
    /// When the first record can have been written, in ms since the epoch.
    started: i64,
}

/// What an interpreter answered, and if it failed, how.
type Told = (Answers, Option<String>);

impl Suite {
    /// Every language writes, every language reads what every language has written.
    fn mixed(&self, scenarios: &[Scenario]) -> Outcome<Vec<String>> {
        let place = |writer: Language, name: &str| {
            format!(
                "file://{}",
                self.dir.join(writer.key()).join(name).display()
            )
        };
        let mut findings = Vec::new();
        let mut logs = BTreeMap::new();
        let plan_of = |writer: Language| {
            let mut plan = String::new();
            for scenario in scenarios
                .iter()
                .filter(|s| !s.not_written_by.contains(&writer))
            {
                let predicted = Log::predicted(scenario);
                plan::write(
                    &mut plan,
                    scenario,
                    Part::Write,
                    writer,
                    &place(writer, &scenario.name),
                    &predicted,
                );
            }
            plan
        };
        let told = self.side_by_side(
            Language::ALL
                .map(|writer| (writer, format!("write-{}", writer.key()), plan_of(writer))),
        )?;
        for (writer, (answers, failure)) in Language::ALL.into_iter().zip(told) {
            findings.extend(failure.map(|how| format!("{writer} as writer: {how}")));
            for scenario in scenarios
                .iter()
                .filter(|s| !s.not_written_by.contains(&writer))
            {
                let mut log = Log::default();
                let found = self.judge(scenario, Part::Write, writer, &answers, &mut log);
                findings.extend(
                    found
                        .into_iter()
                        .map(|what| format!("{} written by {writer}: {what}", scenario.name)),
                );
                logs.insert((writer, &scenario.name), log);
            }
        }
        // A directory has one owner at a time: in each round every language reads another's.
        for round in 0..Language::ALL.len() {
            let of = |i: usize| Language::ALL[(i + round) % Language::ALL.len()];
            let taken = |writer: Language, reader: Language| {
                let both = move |s: &&Scenario| {
                    !s.not_written_by.contains(&writer) && !s.not_read_by.contains(&reader)
                };
                scenarios.iter().filter(both)
            };
            let pairs = [0, 1, 2, 3].map(|i| (of(i), Language::ALL[i]));
            let told = self.side_by_side(pairs.map(|(writer, reader)| {
                let mut plan = String::new();
                for scenario in taken(writer, reader) {
                    let log = &logs[&(writer, &scenario.name)];
                    plan::write(
                        &mut plan,
                        scenario,
                        Part::Read,
                        reader,
                        &place(writer, &scenario.name),
                        log,
                    );
                }
                (
                    reader,
                    format!("read-{}-by-{}", writer.key(), reader.key()),
                    plan,
                )
            }))?;
            for ((writer, reader), (answers, failure)) in pairs.into_iter().zip(told) {
                findings
                    .extend(failure.map(|how| format!("{reader} as reader of {writer}: {how}")));
                for scenario in taken(writer, reader) {
                    let log = logs
                        .get_mut(&(writer, &scenario.name))
                        .expect("it was written");
                    let found = self.judge(scenario, Part::Read, reader, &answers, log);
                    findings.extend(found.into_iter().map(|what| {
                        format!(
                            "{} written by {writer}, read by {reader}: {what}",
                            scenario.name
                        )
                    }));
                }
            }
        }
        Ok(findings)
    }

    /// Every language alone, in memory.
    fn alone(&self, scenarios: &[Scenario]) -> Outcome<Vec<String>> {
        let found = self.in_memory("memory", scenarios)?;
        Ok(found
            .into_iter()
            .flat_map(|(scenario, language, found)| {
                found
                    .into_iter()
                    .map(move |what| format!("{scenario} in memory, {language}: {what}"))
            })
            .collect())
    }

    /// The wrong expectations of the control that were not reported in every language.
    fn control(&self, control: &[Scenario]) -> Outcome<Vec<String>> {
        let found = self.in_memory("control", control)?;
        let mut missed = Vec::new();
        for scenario in control {
            let report = scenario.reports.as_deref();
            let report =
                report.ok_or_else(|| format!("control {}: without `reports`", scenario.name))?;
            for language in Language::ALL
                .into_iter()
                .filter(|l| !scenario.not_written_by.contains(l))
            {
                let said = found
                    .iter()
                    .find(|(name, l, _)| *name == scenario.name && *l == language);
                let said = said.map_or(&[][..], |(_, _, found)| found);
                if !said.iter().any(|what| what.contains(report)) {
                    missed.push(format!(
                        "control {}, {language}: {report:?} was not reported, but {said:?}",
                        scenario.name
                    ));
                }
            }
        }
        Ok(missed)
    }

    /// Differences by scenario and language.
    fn in_memory<'a>(
        &self,
        name: &str,
        scenarios: &'a [Scenario],
    ) -> Outcome<Vec<(&'a str, Language, Vec<String>)>> {
        let taken = |language: Language| {
            let both = move |s: &&Scenario| {
                !s.not_written_by.contains(&language) && !s.not_read_by.contains(&language)
            };
            scenarios.iter().filter(both)
        };
        let told = self.side_by_side(Language::ALL.map(|language| {
            let mut plan = String::new();
            for scenario in taken(language) {
                let place = format!("memory:{}", scenario.name);
                plan::write(
                    &mut plan,
                    scenario,
                    Part::Both,
                    language,
                    &place,
                    &Log::predicted(scenario),
                );
            }
            (language, format!("{name}-{}", language.key()), plan)
        }))?;
        let mut findings = Vec::new();
        for (language, (answers, failure)) in Language::ALL.into_iter().zip(told) {
            findings.extend(failure.map(|how| ("all", language, vec![how])));
            for scenario in taken(language) {
                let found = self.judge(
                    scenario,
                    Part::Both,
                    language,
                    &answers,
                    &mut Log::default(),
                );
                findings.push((scenario.name.as_str(), language, found));
            }
        }
        Ok(findings)
    }

    fn judge(
        &self,
        scenario: &Scenario,
        part: Part,
        language: Language,
        answers: &Answers,
        log: &mut Log,
    ) -> Vec<String> {
        judge::judge(
            scenario,
            part,
            language,
            answers,
            log,
            (self.started, now_ms()),
        )
    }

    /// Runs plans at the same time, each with its language's interpreter.
    fn side_by_side(&self, plans: [(Language, String, String); 4]) -> Outcome<Vec<Told>> {
        thread::scope(|scope| {
            let started: Vec<_> = plans
                .into_iter()
                .map(|(language, name, plan)| {
                    scope.spawn(move || self.interpret(language, &name, &plan))
                })
                .collect();
            started
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err("a thread panicked".into()))
                })
                .collect()
        })
    }

    fn interpret(&self, language: Language, name: &str, plan: &str) -> Outcome<Told> {
        let path = self.dir.join(format!("{name}.plan"));
        fs::write(&path, plan).map_err(|e| format!("{}: {e}", path.display()))?;
        let [program, arguments @ ..] = &self.interpreters[&language][..] else {
            return Err(format!("{language} has no interpreter"));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .arg(&path)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let mut pipe = child.stderr.take().expect("stderr is piped");
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipe.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut pipe = child.stdout.take().expect("stdout is piped");
        let output = thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).map(|_| text)
        });
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) => break Some(status),
                None if Instant::now() > until => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let output = output
            .join()
            .map_err(|_| "a thread panicked")?
            .map_err(|e| format!("{language}: {e}"))?;
        let errors = errors.join().map_err(|_| "a thread panicked")?;
        let _ = fs::write(path.with_extension("out"), &output);
        let last = output.lines().last().unwrap_or("nothing");
        let last: String = last.chars().take(100).collect();
        let failure = match status {
            Some(status) if status.success() => None,
            Some(status) => Some(format!(
                "ended with {status}; it answered last: {last}\n{errors}"
            )),
            None => Some(format!(
                "was not done after {} s; it answered last: {last}\n{errors}",
                PATIENCE.as_secs()
            )),
        };
        // What is cut off by a failure is no answer.
        let whole = if failure.is_some() {
            output.rfind('\n').map_or("", |end| &output[..end])
        } else {
            &output
        };
        Ok((
            judge::answers(whole).map_err(|e| format!("{language}: {e}"))?,
            failure,
        ))
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_well_formed() {
        let list =
            list::read(&root().join("tests/scenarios/scenarios.toml")).expect("it can be read");
        assert!(list.iter().all(|scenario| scenario.reports.is_none()));
        let control =
            list::read(&root().join("tests/scenarios/control.toml")).expect("it can be read");
        assert!(control.iter().all(|scenario| scenario.reports.is_some()));
    }

    #[test]
    fn a_plan_has_a_line_for_each_step_and_record() {
        let list = list::parse(
            r#"
            [[scenario]]
            name = "plan"
            proves = "plans are what docs/internals/scenarios.md says"
            why = "as an example"
            settings = { "num.partitions" = 2 }
            write = [
                { producer = { acks = "all" } },
                { produce = "t", records = [{ key = "", value = { hex = "00" }, partition = 1, headers = [["a", "b"], ["c"]] }] },
            ]
            read = [
                { consumer = { "group.id" = "g-{language}" } },
                { assign = ["t/1 @5"] },
                { to_end = ["t/1 .."] },
                { position = "t/1", is = [1], not = ["node"] },
                { close = true },
            ]
            "#,
        )
        .expect("the list is right");
        let written = |language| {
            let mut plan = String::new();
            plan::write(
                &mut plan,
                &list[0],
                Part::Both,
                language,
                "memory:m",
                &Log::predicted(&list[0]),
            );
            plan.replace('\t', " ")
        };
        assert_eq!(
            written(Language::C),
            "scenario plan memory:m?num.partitions=2\nproducer 0 acks=all\nrecord 1 t 1 0  00 a=62 c\ndeliver 1\n\
             consumer 1000 group.id=g-c enable.auto.commit=false enable.partition.eof=true\nassign 1001 t 1 @5\nend 1002 1 1\n\
             position 1003 t 1\nclose 1004\ndone\n"
        );
        let node = written(Language::Node);
        assert!(
            node.contains("group.id=g-node enable.auto.commit=false\n")
                && !node.contains("position"),
            "{node}"
        );
    }
}
