//! Scenarios as the interpreters read them: lines of fields with tabs between them. What they mean is in
//! docs/internals/scenarios.md.

use super::{
    list::{Data, Language, Properties, Range, Record, Scenario, Step},
    log::Log,
};
use std::fmt::Write;

/// Where the numbers of a read part's steps begin.
pub const READ_STEPS: usize = 1000;

/// Which part of a scenario a plan has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Write,
    Read,
    Both,
}

impl Part {
    /// The steps with their numbers.
    pub fn steps(self, scenario: &Scenario) -> Vec<(usize, &Step)> {
        let write = scenario.write.iter().enumerate();
        let read = scenario.read.iter().enumerate();
        let read = read.map(|(i, step)| (READ_STEPS + i, step));
        match self {
            Self::Write => write.collect(),
            Self::Read => read.collect(),
            Self::Both => write.chain(read).collect(),
        }
    }
}

/// Appends the lines of a scenario for an interpreter. `log` tells what is there to read.
pub fn write(
    plan: &mut String,
    scenario: &Scenario,
    part: Part,
    language: Language,
    place: &str,
    log: &Log,
) {
    let mut servers = place.to_owned();
    for (i, (name, value)) in scenario.settings.iter().enumerate() {
        let _ = write!(servers, "{}{name}={value}", if i == 0 { '?' } else { '&' });
    }
    line(plan, &["scenario", &scenario.name, &servers]);
    let mut has_producer = false;
    for (number, step) in part.steps(scenario) {
        if !step.not.contains(&language) {
            if step.produce.is_some() && !has_producer {
                // One with all defaults; the answer that counts for the step is the one behind it.
                line(plan, &["producer", &number.to_string()]);
            }
            has_producer |= step.producer.is_some() || step.produce.is_some();
            write_step(plan, number, step, language, log);
        }
    }
    line(plan, &["done"]);
}

fn write_step(plan: &mut String, number: usize, step: &Step, language: Language, log: &Log) {
    let number = number.to_string();
    let mut put = |verb: &str, fields: &[&str]| {
        line(plan, &[&[verb, &number], fields].concat());
    };
    if let Some(properties) = &step.producer {
        let properties = assignments(properties, language);
        put("producer", &fields(&properties));
    } else if let Some(topic) = &step.produce {
        for record in step.produced() {
            let record = record_fields(topic, &record);
            put("record", &fields(&record));
        }
        put("deliver", &[]);
    } else if let Some(properties) = &step.consumer {
        let mut properties = assignments(properties, language);
        let mut default = |name: &str, value: &str| {
            if !properties.iter().any(|p| p.split('=').next() == Some(name)) {
                properties.push(format!("{name}={value}"));
            }
        };
        default("group.id", &format!("scenarios-{}", language.key()));
        default("enable.auto.commit", "false");
        if language != Language::Node {
            // KafkaJS doesn't tell of a partition's end.
            default("enable.partition.eof", "true");
        }
        put("consumer", &fields(&properties));
    } else if let Some(starts) = &step.assign {
        let starts: Vec<String> = starts.iter().flat_map(|start| place(start)).collect();
        put("assign", &fields(&starts));
    } else if let Some(topics) = &step.subscribe {
        put("subscribe", &fields(topics));
    } else if let Some(ranges) = &step.take {
        put("take", &[&count(ranges, log)]);
    } else if let Some(ranges) = &step.to_end {
        put("end", &[&ranges.len().to_string(), &count(ranges, log)]);
    } else if let Some(ms) = step.idle {
        put("idle", &[&ms.to_string()]);
    } else if step.next_error.is_some() {
        put("error", &[]);
    } else if step.commit.is_some() {
        put("commit", &[]);
    } else if step.close.is_some() {
        put("close", &[]);
    } else {
        let places = [
            ("pause", &step.pause),
            ("resume", &step.resume),
            ("seek", &step.seek),
            ("committed", &step.committed),
            ("position", &step.position),
            ("watermarks", &step.watermarks),
            ("time", &step.time),
        ];
        for (verb, text) in places {
            if let Some(text) = text {
                put(verb, &fields(&place(text)));
            }
        }
    }
}

/// "topic/partition rest" as fields.
fn place(text: &str) -> Vec<String> {
    let (place, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (topic, partition) = place.split_once('/').unwrap_or((place, ""));
    let all = [topic, partition, rest];
    all.into_iter()
        .filter(|field| !field.is_empty())
        .map(String::from)
        .collect()
}

/// Properties as name=value; `{language}` stands for the interpreter's language.
fn assignments(properties: &Properties, language: Language) -> Vec<String> {
    properties
        .iter()
        .map(|(name, value)| format!("{name}={value}").replace("{language}", language.key()))
        .collect()
}

fn record_fields(topic: &str, record: &Record) -> Vec<String> {
    let mut fields = vec![
        topic.to_owned(),
        record.partition.unwrap_or(-1).to_string(),
        record.timestamp.unwrap_or(0).to_string(),
        hex_or_null(record.key.as_ref()),
        hex_or_null(record.value.as_ref()),
    ];
    fields.extend(record.headers.iter().map(|header| {
        let name = String::from_utf8_lossy(&header[0].bytes()).into_owned();
        match header.get(1) {
            Some(value) => format!("{name}={}", hex_or_null(Some(value))),
            None => name,
        }
    }));
    fields
}

fn count(ranges: &[Range], log: &Log) -> String {
    let of = |range: &Range| {
        let end = range
            .end
            .unwrap_or_else(|| log.of(&range.topic, range.partition).len());
        end.saturating_sub(range.first)
    };
    ranges.iter().map(of).sum::<usize>().to_string()
}

fn hex_or_null(data: Option<&Data>) -> String {
    data.map_or_else(|| "-".into(), |data| hex(&data.bytes()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn fields(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn line(plan: &mut String, fields: &[&str]) {
    debug_assert!(fields.iter().all(|field| !field.contains(['\t', '\n'])));
    plan.push_str(&fields.join("\t"));
    plan.push('\n');
}
