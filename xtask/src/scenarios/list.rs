//! The list of scenarios, as it is written in `tests/scenarios/scenarios.toml`.

use crate::shell::Outcome;
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, path::Path};

/// A language that has an interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Rust,
    C,
    Python,
    Node,
}

impl Language {
    pub const ALL: [Self; 4] = [Self::Rust, Self::C, Self::Python, Self::Node];

    /// As in the list and in paths.
    pub fn key(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Python => "python",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::Python => "Python",
            Self::Node => "Node",
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    scenario: Vec<Scenario>,
}

/// One entry of the list.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// What it proves, as a sentence for people.
    pub proves: String,
    /// The broker's settings, which go into the query of `bootstrap.servers`.
    #[serde(default)]
    pub settings: Properties,
    #[serde(default)]
    pub write: Vec<Step>,
    #[serde(default)]
    pub read: Vec<Step>,
    /// Languages whose API can't write it.
    #[serde(default)]
    pub not_written_by: Vec<Language>,
    /// Languages whose API can't read it.
    #[serde(default)]
    pub not_read_by: Vec<Language>,
    /// Why something of it is left out for a language.
    pub why: Option<String>,
    /// In the control's list only: what the difference that has to be found says.
    pub reports: Option<String>,
}

pub type Properties = BTreeMap<String, Scalar>;

/// A property's value.
#[derive(Deserialize, Debug, Clone)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Number(i64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// One step: exactly one of the fields up to `close` says what it does, the others what is expected of it.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    pub producer: Option<Properties>,
    /// The topic of `records` and `generate`.
    pub produce: Option<String>,
    pub consumer: Option<Properties>,
    /// "topic/partition start" each.
    pub assign: Option<Vec<String>>,
    pub subscribe: Option<Vec<String>>,
    /// Records to read, and no others: "topic/partition first..end" each.
    pub take: Option<Vec<Range>>,
    /// The same, and then the end of each of these partitions.
    pub to_end: Option<Vec<Range>>,
    /// Nothing comes for so many ms.
    pub idle: Option<u32>,
    /// The next thing that comes is an error.
    pub next_error: Option<bool>,
    pub pause: Option<String>,
    pub resume: Option<String>,
    /// "topic/partition start".
    pub seek: Option<String>,
    pub commit: Option<bool>,
    pub committed: Option<String>,
    pub position: Option<String>,
    pub watermarks: Option<String>,
    /// "topic/partition milliseconds".
    pub time: Option<String>,
    pub close: Option<bool>,

    pub records: Vec<Record>,
    pub generate: Option<Generate>,
    /// The offsets that it answers with; "none" and "end" for those that are no numbers.
    pub is: Option<Vec<Scalar>>,
    /// The error's librdkafka name.
    pub error: Option<String>,
    /// What the error's message has in it.
    pub says: Option<String>,
    /// Languages for which the step is left out.
    pub not: Vec<Language>,
}

/// A record to produce, and what becomes of it.
#[derive(Deserialize, Debug, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// Absent is null.
    pub key: Option<Data>,
    /// Absent is null: a tombstone.
    pub value: Option<Data>,
    /// Name and value; without a value it is null.
    pub headers: Vec<Vec<Data>>,
    /// Milliseconds since the epoch; absent is now.
    pub timestamp: Option<i64>,
    /// The partition that is asked for; absent leaves it to the partitioner.
    pub partition: Option<i32>,
    /// The partition that the partitioner is to choose; absent is any.
    pub lands: Option<i32>,
    /// Why it isn't delivered.
    pub error: Option<String>,
}

/// Bytes.
#[derive(Deserialize, Debug, Clone)]
#[serde(untagged, deny_unknown_fields)]
pub enum Data {
    Text(String),
    Hex { hex: String },
    Repeated { repeat: String, times: usize },
}

impl Data {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Repeated { repeat, times } => repeat.repeat(*times).into_bytes(),
            Self::Hex { hex } => (0..hex.len() / 2)
                .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap_or_default())
                .collect(),
        }
    }
}

/// Many records: number i has the key `k{i}`, the value `v{i}` made as long as `value_bytes`, and partition i modulo
/// `partitions`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    pub count: usize,
    #[serde(default = "one")]
    pub partitions: i32,
    #[serde(default)]
    pub value_bytes: usize,
    /// The first record's timestamp, each following one's is a second later; absent is now.
    pub timestamp: Option<i64>,
}

fn one() -> i32 {
    1
}

/// Offsets of a partition, from `first` up to `end`, or its log's end.
#[derive(Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Range {
    pub topic: String,
    pub partition: i32,
    pub first: usize,
    pub end: Option<usize>,
}

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = || {
            let (place, offsets) = text.split_once(' ')?;
            let (topic, partition) = place.split_once('/')?;
            let (first, end) = match offsets {
                "none" => (0, Some(0)),
                _ => {
                    let (first, end) = offsets.split_once("..")?;
                    let number = |text: &str, or| match text {
                        "" => Some(or),
                        _ => text.parse().ok().map(Some),
                    };
                    (number(first, Some(0))??, number(end, None)?)
                }
            };
            Some(Self {
                topic: topic.into(),
                partition: partition.parse().ok()?,
                first,
                end,
            })
        };
        parsed().ok_or_else(|| format!("{text:?} is not \"topic/partition first..end\""))
    }
}

impl Step {
    /// The records of a `produce` step.
    pub fn produced(&self) -> Vec<Record> {
        let mut records = self.records.clone();
        if let Some(generate) = &self.generate {
            records.extend((0..generate.count).map(|i| {
                let value = format!("v{i} ");
                Record {
                    key: Some(Data::Text(format!("k{i}"))),
                    value: Some(Data::Text(
                        value.repeat(generate.value_bytes / value.len() + 1),
                    )),
                    partition: Some((i % generate.partitions as usize) as i32),
                    timestamp: generate.timestamp.map(|first| first + 1000 * i as i64),
                    ..Record::default()
                }
            }));
        }
        records
    }

    /// How many of the fields that say what it does are there.
    fn actions(&self) -> usize {
        [
            self.producer.is_some(),
            self.produce.is_some(),
            self.consumer.is_some(),
            self.assign.is_some(),
            self.subscribe.is_some(),
            self.take.is_some(),
            self.to_end.is_some(),
            self.idle.is_some(),
            self.next_error.is_some(),
            self.pause.is_some(),
            self.resume.is_some(),
            self.seek.is_some(),
            self.commit.is_some(),
            self.committed.is_some(),
            self.position.is_some(),
            self.watermarks.is_some(),
            self.time.is_some(),
            self.close.is_some(),
        ]
        .into_iter()
        .filter(|is_there| *is_there)
        .count()
    }

    fn problem(&self) -> Option<&'static str> {
        let asks = self.committed.is_some()
            || self.position.is_some()
            || self.watermarks.is_some()
            || self.time.is_some();
        if self.actions() != 1 {
            Some("a step does exactly one thing")
        } else if self.produce.is_some() != (!self.records.is_empty() || self.generate.is_some()) {
            Some("`produce` has `records` or `generate`, and nothing else has")
        } else if asks != (self.is.is_some() || (asks && self.error.is_some())) {
            Some("a step that asks for offsets says what they are in `is`")
        } else if self.next_error.is_some() && self.error.is_none() {
            Some("`next_error` says which in `error`")
        } else if self.says.is_some() && self.error.is_none() {
            Some("`says` belongs to `error`")
        } else if self.error.is_some()
            && (self.produce.is_some() || self.take.is_some() || self.to_end.is_some())
        {
            Some("records have errors of their own, and reading an error is `next_error`")
        } else {
            None
        }
    }
}

impl Scenario {
    fn problem(&self) -> Option<String> {
        let mut steps = self.write.iter().chain(&self.read);
        let leaves_out = !self.not_written_by.is_empty()
            || !self.not_read_by.is_empty()
            || self
                .write
                .iter()
                .chain(&self.read)
                .any(|s| !s.not.is_empty());
        if self.name.is_empty()
            || !self
                .name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        {
            return Some("a name is made of small letters, digits and hyphens".into());
        }
        if self.write.is_empty() && self.read.is_empty() {
            return Some("it has no steps".into());
        }
        if leaves_out != self.why.is_some() {
            return Some(
                "`why` says why something is left out for a language, and only then".into(),
            );
        }
        steps.find_map(|step| step.problem().map(|what| format!("{what}: {step:?}")))
    }
}

/// Reads and checks a list.
pub fn parse(text: &str) -> Outcome<Vec<Scenario>> {
    let List { scenario } = toml::from_str(text).map_err(|error| error.to_string())?;
    for (i, one) in scenario.iter().enumerate() {
        if scenario[..i].iter().any(|other| other.name == one.name) {
            return Err(format!("there are two scenarios {}", one.name));
        }
        if let Some(problem) = one.problem() {
            return Err(format!("scenario {}: {problem}", one.name));
        }
    }
    Ok(scenario)
}

/// Reads and checks the list in a file.
pub fn read(path: &Path) -> Outcome<Vec<Scenario>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}
