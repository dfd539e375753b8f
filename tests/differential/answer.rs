//! Answers as lists of fields, and their comparison.

use crate::{Difference, session::Answer};
use ottla_protocol::{Records, Response};
use ottla_record::{Batches, Limits};
use std::time::{SystemTime, UNIX_EPOCH};

/// The fields of an answer. What is a peer's own (its ports, ids, the time) stands there by the name that `own` gives it.
pub fn fields(response: &Response, own: &[(String, String)]) -> Vec<(String, String)> {
    let mut response = response.clone();
    let mut records = Vec::new();
    if let Response::Fetch(fetch) = &mut response {
        for topic in &mut fetch.responses {
            for partition in &mut topic.partitions {
                records.push(std::mem::take(&mut partition.records));
            }
        }
    }
    if let Response::ShareFetch(fetch) = &mut response {
        for topic in &mut fetch.responses {
            for partition in &mut topic.partitions {
                records.push(std::mem::take(&mut partition.records));
            }
        }
    }
    let mut text = format!("{response:#?}");
    for (from, to) in own {
        text = text.replace(from, to);
    }
    let mut fields = flatten(&text);
    for (index, records) in records.iter().enumerate() {
        fields.extend(batches(index, records));
    }
    fields
}

/// `{:#?}` as `path = value`.
fn flatten(text: &str) -> Vec<(String, String)> {
    let mut path: Vec<(String, usize)> = Vec::new();
    let mut fields = Vec::new();
    for line in text.lines() {
        let line = line.trim().trim_end_matches(',');
        match line {
            "}" | "]" | ")" => {
                path.pop();
                continue;
            }
            _ => {}
        }
        let opens = line.ends_with(['{', '[', '(']);
        let (name, value) = match line.split_once(": ") {
            Some((name, value))
                if name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '#') =>
            {
                (name, value)
            }
            _ => ("", line),
        };
        let step = if name.is_empty() {
            // An item of a list.
            let at = path.last_mut().map_or(0, |(_, next)| {
                *next += 1;
                *next - 1
            });
            if path.len() <= 1 {
                String::new()
            } else {
                format!("{at}")
            }
        } else {
            name.to_string()
        };
        if opens {
            path.push((step, 0));
        } else {
            let names = path
                .iter()
                .map(|(step, _)| step.as_str())
                .chain([step.as_str()]);
            let full: Vec<&str> = names.filter(|step| !step.is_empty()).collect();
            fields.push((full.join("."), near_now(value)));
        }
    }
    fields
}

/// A time of about now has no number that could be compared.
fn near_now(value: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as i64);
    match value.parse::<i64>() {
        Ok(number) if (number - now).abs() < 3_600_000 => "<now>".into(),
        _ => value.into(),
    }
}

/// What stands in the batches of a fetch.
fn batches(index: usize, records: &Records) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let chunks: Vec<bytes::Bytes> = vec![records.to_bytes()];
    for (number, batch) in Batches::new(chunks).enumerate() {
        let at = format!("records.{index}.{number}");
        let Ok(batch) = batch else {
            fields.push((at, "unreadable".into()));
            continue;
        };
        let h = batch.header();
        let crc = if batch.check_crc().is_ok() {
            "right"
        } else {
            "WRONG"
        };
        fields.push((
            at.clone(),
            format!(
                "offset {} epoch {} attributes {:#x} last {} base {} max {} producer {} {} {} count {} crc {crc} size {}",
                h.base_offset,
                h.partition_leader_epoch,
                h.attributes.0,
                h.last_offset_delta,
                near_now(&h.base_timestamp.to_string()),
                near_now(&h.max_timestamp.to_string()),
                if h.producer_id < 0 { "none" } else { "some" },
                h.producer_epoch,
                h.base_sequence,
                h.record_count,
                batch.size_in_bytes(),
            ),
        ));
        if let Ok(mut each) = batch.records(Limits::default()) {
            while let Some(Ok(record)) = each.next_record() {
                fields.push((at.clone(), format!("{:?} {:?}", record.key, record.value)));
            }
        }
    }
    fields
}

/// Adds what differs; how many fields there were.
pub fn compare(
    case: &str,
    version: i16,
    theirs: &[(String, Answer)],
    ours: &[(String, Answer)],
    differences: &mut Vec<Difference>,
) -> usize {
    let mut differ = |answer: &str, field: &str, theirs: &str, ours: &str| {
        differences.push(Difference {
            case: case.into(),
            version,
            answer: answer.into(),
            field: field.into(),
            theirs: theirs.into(),
            ours: ours.into(),
        });
    };
    let mut compared = 0;
    for (name, _) in ours {
        if !theirs.iter().any(|(other, _)| other == name) {
            differ(name, "answer", "(missing)", "there");
        }
    }
    for (name, theirs) in theirs {
        let Some((_, ours)) = ours.iter().find(|(other, _)| other == name) else {
            differ(name, "answer", "there", "(missing)");
            continue;
        };
        match (theirs, ours) {
            (Answer::Fields(theirs), Answer::Fields(ours)) => {
                compared += theirs.len();
                pairwise(theirs, ours, &mut |field, theirs, ours| {
                    differ(name, field, theirs, ours)
                });
            }
            (theirs, ours) if kind(theirs) != kind(ours) => {
                differ(name, "answer", &kind(theirs), &kind(ours));
            }
            _ => compared += 1,
        }
    }
    compared
}

fn kind(answer: &Answer) -> String {
    match answer {
        Answer::Fields(fields) => {
            let codes = fields
                .iter()
                .filter(|(path, _)| path.ends_with("error_code"));
            let codes: Vec<&str> = codes.map(|(_, value)| value.as_str()).collect();
            format!("answered {}", codes.join(" "))
        }
        Answer::Closed => "closed".into(),
        Answer::Silent => "silent".into(),
    }
}

/// The fields that both have, one with the other; then those that only one has.
fn pairwise(
    theirs: &[(String, String)],
    ours: &[(String, String)],
    differ: &mut dyn FnMut(&str, &str, &str),
) {
    let mut left: Vec<Option<&(String, String)>> = ours.iter().map(Some).collect();
    for (path, value) in theirs {
        let same = left
            .iter_mut()
            .find(|other| other.is_some_and(|(p, _)| p == path));
        match same.and_then(Option::take) {
            Some((_, other)) if other == value => {}
            Some((_, other)) => differ(path, value, other),
            None => differ(path, value, "(missing)"),
        }
    }
    for (path, value) in left.into_iter().flatten() {
        differ(path, "(missing)", value);
    }
}
