//! Kafka's command-line tools: every command line of `tools.script`, against a JVM Kafka and against the broker under test. What they
//! print is compared line by line, but for what differs from run to run; the differences that are there on purpose are the table of
//! `docs/tools.md`, a row each, and a row that nothing needs any more is an error.

use crate::{
    Against, Outcome, Tally, cases,
    servers::{Java, Server},
};
use regex_lite::Regex;
use std::{collections::BTreeMap, fs::File, path::Path};

const SCRIPT: &str = include_str!("tools.script");
const TABLE: &str = include_str!("../../docs/tools.md");

/// What one command line printed.
struct Printed {
    step: String,
    command: String,
    ms: u64,
    lines: Vec<String>,
}

/// How a step's lines are made comparable, besides what all of them need.
#[derive(Default)]
struct Options {
    /// In which order they come means nothing.
    sorted: bool,
    /// How large a number is means nothing.
    numbers: bool,
    /// Just the lines with this word.
    only: Option<String>,
    /// Not the lines with this word: whether they come depends on what is first.
    without: Option<String>,
}

/// A difference that is there on purpose: lines of one side that have nothing to match on the other.
struct Difference {
    step: String,
    kafka: Option<Regex>,
    ottla: Option<Regex>,
    used: bool,
}

/// The steps' names, with their options.
fn options() -> BTreeMap<&'static str, Options> {
    let mut of = BTreeMap::new();
    for line in SCRIPT.lines() {
        let Some((name, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']'))
        else {
            continue;
        };
        let mut options = Options::default();
        for word in rest.split_whitespace() {
            match word.split_once('=') {
                Some(("only", word)) => options.only = Some(word.into()),
                Some(("without", word)) => options.without = Some(word.into()),
                _ if word == "sorted" => options.sorted = true,
                _ if word == "numbers" => options.numbers = true,
                _ => panic!("the script's {name} has an option {word}"),
            }
        }
        of.insert(name, options);
    }
    of
}

/// The table's rows: step, what Kafka prints, what Ottla prints, why. `*` in a cell stands for anything, `-` for nothing.
fn table() -> Outcome<Vec<Difference>> {
    let pattern = |cell: &str| -> Outcome<Option<Regex>> {
        let text = cell.trim().trim_matches('`').replace("\\|", "|");
        if text == "-" {
            return Ok(None);
        }
        // Several in a cell: `this` or `that`.
        let one = |text: &str| {
            let parts: Vec<String> = text.split('*').map(regex_lite::escape).collect();
            parts.join(".*")
        };
        let any: Vec<String> = text.split("` or `").map(one).collect();
        let regex = Regex::new(&format!("^({})$", any.join("|")));
        regex.map(Some).map_err(|error| error.to_string())
    };
    let mut rows = Vec::new();
    for line in TABLE.lines().filter(|line| line.starts_with("| ")) {
        let line = line.replace("\\|", "\u{1}");
        let cells: Vec<String> = line
            .split('|')
            .map(|cell| cell.trim().replace('\u{1}', "|"))
            .collect();
        let [_, step, kafka, ottla, why, _] = &cells[..] else {
            return Err(format!("docs/tools.md: a row is not of four cells: {line}"));
        };
        if step == "step" {
            continue;
        }
        if why.is_empty() {
            return Err(format!("docs/tools.md: no reason: {line}"));
        }
        rows.push(Difference {
            step: step.clone(),
            kafka: pattern(kafka)?,
            ottla: pattern(ottla)?,
            used: false,
        });
    }
    Ok(rows)
}

/// Makes what two runs print alike, where it is bound to differ: ports, ids, times, sums, directories.
struct Normal {
    rules: Vec<(Regex, &'static str)>,
    numbers: Regex,
}

impl Normal {
    fn new() -> Self {
        let rules = [
            (
                r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
                "UUID",
            ),
            (r"console-(share-)?consumer-\d+", "console-consumer-N"),
            (
                r"(TopicId: |Cluster ID: |ClusterId: +|topicId.:.)[A-Za-z0-9_-]{22}",
                "${1}ID",
            ),
            (r"-[A-Za-z0-9_-]{22}(\s|$|,)", "-ID$1"),
            (r"\b1[789]\d{11}\b", "TIME"),
            (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([:.,]\d+)?", "DATE"),
            (
                r"\b(crc|size|position|keySize|valueSize|producerId|ProducerId|ProducerEpoch|producerEpoch): ?-?\d+",
                "$1: N",
            ),
            (
                r#""(size|offsetLag|metadataHash|txnStartTimestamp|txnLastUpdateTimestamp|producerId|previousProducerId|nextProducerId)":("?)-?\d+"#,
                "\"$1\":$2N",
            ),
            (r"Epoch: \d+$", "Epoch: N"),
            (r"TxnDurationMs|TransactionDuration\(ms\)", "Duration"),
            (r#"(^|[\s":(,])[A-Za-z0-9_-]{22}($|[\s",).])"#, "${1}ID$2"),
            (r"\bTIME\s+\d+", "TIME N"),
            // How wide a column is depends on the longest id in it.
            (r"-{4,}", "----"),
            (r"[ \t]+", " "),
            // A producer that asks twice for its id leaves one out: in the columns of kafka-transactions.
            (
                r"^(\S+ \d+) \d+ (Ongoing|Empty|Prepare\w+|Complete\w+) *$",
                "$1 N $2",
            ),
            (
                r"^(\d+ \S+) \d+ (\d+ (Ongoing|Empty|Prepare\w+|Complete\w+) )",
                "$1 N $2",
            ),
            (r"^\d+ (\d+ -?\d+ -?\d+ TIME )", "N $1"),
        ];
        let compiled = rules.map(|(rule, with)| {
            (
                Regex::new(rule).expect("the rules are regular expressions"),
                with,
            )
        });
        Self {
            rules: compiled.into(),
            numbers: Regex::new(r"-?\d+(\.\d+)?").expect("a regular expression"),
        }
    }

    fn line(&self, line: &str, server: &Server, options: &Options) -> String {
        let port = server.address.rsplit(':').next().unwrap_or_default();
        let mut line = line
            .replace(&server.data.display().to_string(), "DATA")
            .replace(port, "PORT");
        for (rule, with) in &self.rules {
            line = rule.replace_all(&line, *with).into_owned();
        }
        if options.only.is_some() && line.starts_with("| offset:") {
            // Where it lies depends on the lines that are left out; a sequence without a producer means nothing.
            line = self.numbers.replace(&line, "N").into_owned();
            line = line.replace("sequence: 0 ", "sequence: -1 ");
        }
        if options.numbers {
            line = self.numbers.replace_all(&line, "N").into_owned();
        }
        line.trim().to_string()
    }
}

/// Both brokers' sections of what the program printed.
fn sections(said: &str) -> Outcome<[Vec<Printed>; 2]> {
    let mut of = [Vec::new(), Vec::new()];
    for section in said.split('\u{1}').skip(1) {
        // The formatters of records don't end their lines.
        let section = section.replace("}{\"key\"", "}\n{\"key\"");
        let mut lines = section.lines();
        let head: Vec<&str> = lines.next().unwrap_or_default().splitn(3, '\t').collect();
        let [broker, step, command] = head[..] else {
            return Err(format!("not understood: {head:?}"));
        };
        let ms = lines.next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
        of[usize::from(broker == "1")].push(Printed {
            step: step.into(),
            command: command.into(),
            ms,
            lines: lines
                // Where a stack was is no promise.
                .filter(|line| {
                    !line.starts_with("stderr: \tat ") && !line.starts_with("stderr: \t... ")
                })
                .map(String::from)
                .collect(),
        });
    }
    Ok(of)
}

/// The lines of each that the other one has not, in order.
fn differing<'a>(a: &'a [String], b: &'a [String]) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            of_a.push(a[i].as_str());
            i += 1;
        } else {
            of_b.push(b[j].as_str());
            j += 1;
        }
    }
    (of_a, of_b)
}

pub fn run(
    java: &Java,
    against: Against,
    dir: &Path,
    wanted: &[String],
    tally: &mut Tally,
) -> Outcome {
    let mut kafka = Server::kafka(java, dir, "kafka")?;
    let mut other = match against {
        Against::Ottla => Server::ottla(dir, "ottla", false)?,
        Against::Jvm => Server::kafka(java, dir, "control")?,
    };
    let files = dir.join("files");
    std::fs::create_dir_all(&files).map_err(|error| error.to_string())?;
    let script = dir.join("script");
    std::fs::write(&script, SCRIPT).map_err(|error| error.to_string())?;
    let errors = dir.join("errors");
    let done = java
        .command("ottla.Tools", &dir.join("tools.log"))
        .args([&script, &files])
        .arg(&kafka.address)
        .arg(&kafka.data)
        .arg(&other.address)
        .arg(&other.data)
        .stderr(File::create(&errors).map_err(|error| error.to_string())?)
        .output()
        .map_err(|error| format!("java: {error}"))?;
    let _ = std::fs::write(dir.join("printed"), &done.stdout);
    if !done.status.success() {
        let why = std::fs::read_to_string(errors).unwrap_or_default();
        return Err(format!(
            "tools: the program ended with {}: {why}",
            done.status
        ));
    }
    let [of_kafka, of_other] = sections(&String::from_utf8_lossy(&done.stdout))?;
    if of_kafka.len() != of_other.len() || of_kafka.is_empty() {
        return Err(format!(
            "tools: {} and {} command lines",
            of_kafka.len(),
            of_other.len()
        ));
    }
    let mut allowed = table()?;
    let (options, normal) = (options(), Normal::new());
    let mut slowest = (0, "");
    for (theirs, ours) in of_kafka.iter().zip(&of_other) {
        slowest = slowest.max((theirs.ms.max(ours.ms), theirs.command.as_str()));
        if !wanted.is_empty()
            && !wanted
                .iter()
                .any(|text| theirs.step.contains(text.as_str()))
        {
            continue;
        }
        let options = options
            .get(theirs.step.as_str())
            .ok_or("a step without a name")?;
        let lines = |printed: &Printed, server: &Server| {
            let kept = |line: &&String| {
                options
                    .only
                    .as_ref()
                    .is_none_or(|word| line.contains(word.as_str()))
            };
            let left_out = |line: &&String| {
                let word = options.without.as_ref();
                word.is_some_and(|word| line.contains(word.as_str()))
            };
            let lines = printed.lines.iter();
            let lines = lines.filter(|line| kept(line) && !left_out(line));
            let mut lines: Vec<String> = lines
                .map(|line| normal.line(line, server, options))
                .collect();
            if options.sorted {
                lines.sort_unstable();
            }
            lines
        };
        let (a, b) = (lines(theirs, &kafka), lines(ours, &other));
        let (only_kafka, only_ottla) = differing(&a, &b);
        let mut report = String::new();
        for (sign, lines) in [('-', only_kafka), ('+', only_ottla)] {
            for line in lines {
                let row = allowed.iter_mut().find(|row| {
                    let pattern = if sign == '-' { &row.kafka } else { &row.ottla };
                    (row.step == theirs.step || row.step == "all")
                        && against == Against::Ottla
                        && pattern
                            .as_ref()
                            .is_some_and(|pattern| pattern.is_match(line))
                });
                match row {
                    Some(row) => row.used = true,
                    None => report += &format!("\n    {sign} {line}"),
                }
            }
        }
        let reason = cases::pending(&format!("tools: {}", theirs.step));
        let reason = reason.filter(|_| against == Against::Ottla);
        let command = &theirs.command;
        match (report.is_empty(), reason) {
            (true, _) => tally.passed += 1,
            (false, None) => tally
                .failed
                .push(format!("{}: {command}{report}", theirs.step)),
            (false, Some(reason)) => tally
                .pending
                .push(format!("{}: {command}: {reason}", theirs.step)),
        }
    }
    println!(
        "   {} command lines; the slowest: {}, {} s",
        of_kafka.len(),
        slowest.1,
        slowest.0 / 1000
    );
    if against == Against::Ottla && wanted.is_empty() {
        for row in allowed.iter().filter(|row| !row.used) {
            let cell = |of: &Option<Regex>| of.as_ref().map_or("-".to_string(), Regex::to_string);
            tally.failed.push(format!(
                "docs/tools.md: nothing needs the row of {}: {} {}",
                row.step,
                cell(&row.kafka),
                cell(&row.ottla)
            ));
        }
    }
    kafka.stop("tools", tally)?;
    other.stop("tools", tally)
}
