//! What an interpreter answered against what the list expects: each difference is a sentence.

use super::{
    list::{Data, Language, Range, Record, Scalar, Scenario, Step},
    log::Log,
    plan::{Part, READ_STEPS, hex},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// An interpreter's answers by scenario and step.
pub type Answers = BTreeMap<(String, usize), Value>;

/// Reads the lines that an interpreter printed.
pub fn answers(output: &str) -> Result<Answers, String> {
    output
        .lines()
        .map(|line| {
            let wrong = || format!("not an answer: {line}");
            let mut value: Value = serde_json::from_str(line).map_err(|_| wrong())?;
            let scenario = value["scenario"].as_str().ok_or_else(wrong)?.to_owned();
            let step = value["step"].as_u64().ok_or_else(wrong)? as usize;
            Ok(((scenario, step), value["result"].take()))
        })
        .collect()
}

/// Compares what one interpreter answered to its part of a scenario. What it delivered is appended to `log`, what it read is
/// compared with it. `times` is when the run began and ended, in ms: records without a timestamp of their own lie between.
pub fn judge(
    scenario: &Scenario,
    part: Part,
    language: Language,
    answers: &Answers,
    log: &mut Log,
    times: (i64, i64),
) -> Vec<String> {
    let mut differences = Vec::new();
    for (number, step) in part.steps(scenario) {
        if step.not.contains(&language) {
            continue;
        }
        let found = match answers.get(&(scenario.name.clone(), number)) {
            Some(answer) => judge_step(step, answer, log, times),
            None => vec!["no answer: the program ended before".into()],
        };
        let place = match number.checked_sub(READ_STEPS) {
            Some(read) => format!("read step {}", read + 1),
            None => format!("write step {}", number + 1),
        };
        differences.extend(found.into_iter().map(|what| format!("{place}: {what}")));
    }
    differences
}

fn judge_step(step: &Step, answer: &Value, log: &mut Log, times: (i64, i64)) -> Vec<String> {
    if let Some(wanted) = &step.error {
        let (code, message) = (&answer["error"]["code"], &answer["error"]["message"]);
        if code != wanted.as_str() {
            return vec![format!("expected the error {wanted}, got {answer}")];
        }
        let says = step.says.as_deref().unwrap_or_default();
        if !message.as_str().unwrap_or_default().contains(says) {
            return vec![format!(
                "expected an error that says {says:?}, got {message}"
            )];
        }
        return Vec::new();
    }
    if let Some(error) = answer.get("error") {
        return vec![format!(
            "expected no error, got {} {}",
            error["code"], error["message"]
        )];
    }
    if let Some(topic) = &step.produce {
        return log.deliver(topic, step.produced(), answer);
    }
    if let Some(wanted) = &step.is {
        let wanted: Vec<Value> = wanted.iter().map(offset).collect();
        if answer["offsets"].as_array() != Some(&wanted) {
            return vec![format!("expected the offsets {wanted:?}, got {answer}")];
        }
        return Vec::new();
    }
    let nothing = Vec::new();
    let reads = step.take.as_ref().or(step.to_end.as_ref());
    let reads = reads.or(step.idle.map(|_| &nothing));
    match reads {
        Some(ranges) => {
            let mut differences = judge_records(ranges, answer, log, times);
            if step.to_end.is_some() {
                differences.extend(judge_ends(ranges, answer, log));
            }
            differences
        }
        None if answer["ok"] == true => Vec::new(),
        None => vec![format!("expected success, got {answer}")],
    }
}

fn offset(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Number(number) => (*number).into(),
        Scalar::Text(text) if text == "none" => Value::Null,
        other => other.to_string().into(),
    }
}

/// Where a partition's log ends, with the offset of `range` if it has one.
fn end(range: &Range, log: &Log) -> usize {
    range
        .end
        .unwrap_or_else(|| log.of(&range.topic, range.partition).len())
}

fn judge_records(ranges: &[Range], answer: &Value, log: &Log, times: (i64, i64)) -> Vec<String> {
    let Some(records) = answer["records"].as_array() else {
        return vec![format!("expected records, got {answer}")];
    };
    let mut by_partition: BTreeMap<(&str, i64), Vec<&Value>> = BTreeMap::new();
    for record in records {
        let topic = record["topic"].as_str().unwrap_or("?");
        let partition = record["partition"].as_i64().unwrap_or(-1);
        by_partition
            .entry((topic, partition))
            .or_default()
            .push(record);
    }
    let mut differences = Vec::new();
    for range in ranges {
        let place = format!("{}/{}", range.topic, range.partition);
        let got = by_partition
            .remove(&(&range.topic, range.partition.into()))
            .unwrap_or_default();
        let wanted = log.of(&range.topic, range.partition);
        let (first, end) = (range.first, end(range, log));
        let got_offsets: Vec<i64> = got.iter().filter_map(|r| r["offset"].as_i64()).collect();
        let wanted_offsets: Vec<i64> = (first as i64..end as i64).collect();
        if got_offsets != wanted_offsets {
            differences.push(format!(
                "{place}: expected the offsets {}, read {}",
                runs(&wanted_offsets),
                runs(&got_offsets)
            ));
        }
        for record in got {
            let offset = record["offset"].as_i64().unwrap_or(-1);
            // A record that shouldn't be there has been told already.
            if let Some(wanted) = wanted.get(offset as usize)
                && let Some(difference) = judge_record(wanted, record, times)
            {
                differences.push(format!("{place} offset {offset}: {difference}"));
            }
        }
    }
    for ((topic, partition), records) in by_partition {
        differences.push(format!(
            "{topic}/{partition}: expected nothing, read {} records, the first is {}",
            records.len(),
            records[0]
        ));
    }
    differences
}

fn judge_record(wanted: &Record, got: &Value, times: (i64, i64)) -> Option<String> {
    let data = |data: Option<&Data>| data.map_or(Value::Null, |data| hex(&data.bytes()).into());
    for (what, wanted) in [("key", &wanted.key), ("value", &wanted.value)] {
        let wanted = data(wanted.as_ref());
        if got[what] != wanted {
            return Some(format!(
                "{what}: expected {}, read {}",
                shown(&wanted),
                shown(&got[what])
            ));
        }
    }
    let text = |data: &Data| Value::from(String::from_utf8_lossy(&data.bytes()).into_owned());
    let headers = wanted.headers.iter();
    let headers: Value = headers
        .map(|header| Value::from(vec![text(&header[0]), data(header.get(1))]))
        .collect();
    if got["headers"] != headers {
        return Some(format!(
            "headers: expected {headers}, read {}",
            got["headers"]
        ));
    }
    let timestamp = got["timestamp"].as_i64().unwrap_or(-1);
    match wanted.timestamp {
        Some(wanted) if timestamp != wanted => {
            Some(format!("timestamp: expected {wanted}, read {timestamp}"))
        }
        None if timestamp < times.0 || timestamp > times.1 => Some(format!(
            "timestamp: expected one of this run ({} to {}), read {timestamp}",
            times.0, times.1
        )),
        _ => None,
    }
}

/// The ends that were told; Node tells none.
fn judge_ends(ranges: &[Range], answer: &Value, log: &Log) -> Option<String> {
    let told = answer.get("ends")?;
    let mut wanted: Vec<(&str, i32, usize)> = ranges
        .iter()
        .map(|r| (&*r.topic, r.partition, log.of(&r.topic, r.partition).len()))
        .collect();
    wanted.sort_unstable();
    let wanted: Value = wanted
        .into_iter()
        .map(|(topic, partition, end)| {
            Value::from(vec![Value::from(topic), partition.into(), end.into()])
        })
        .collect();
    (*told != wanted).then(|| format!("expected the ends {wanted}, got {told}"))
}

/// Hexadecimal digits as what they stand for, if that is short and readable.
fn shown(value: &Value) -> String {
    let Some(digits) = value.as_str() else {
        return value.to_string();
    };
    let data = Data::Hex { hex: digits.into() };
    match String::from_utf8(data.bytes()) {
        Ok(text) if text.len() <= 60 && !text.contains(char::is_control) => format!("{text:?}"),
        _ if digits.len() <= 64 => format!("0x{digits}"),
        _ => format!(
            "{} bytes that begin with 0x{}",
            digits.len() / 2,
            &digits[..32]
        ),
    }
}

/// "0..3, 5..6" for 0, 1, 2, 5.
fn runs(offsets: &[i64]) -> String {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for &offset in offsets {
        match runs.last_mut() {
            Some(run) if run.1 == offset => run.1 += 1,
            _ => runs.push((offset, offset + 1)),
        }
    }
    if runs.is_empty() {
        return "none".into();
    }
    let texts: Vec<String> = runs.iter().map(|(a, b)| format!("{a}..{b}")).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::list::parse;

    const LIST: &str = r#"
        [[scenario]]
        name = "two"
        proves = "the judge sees what is wrong"
        write = [{ produce = "t", records = [
            { key = "a", value = "1", timestamp = 1000, partition = 0, headers = [["h", "x"], ["null"]] },
            { value = { hex = "00ff" }, partition = 0 },
            { value = "lost", partition = 9, error = "_UNKNOWN_PARTITION" },
        ] }]
        read = [
            { assign = ["t/0 beginning"] },
            { to_end = ["t/0 .."] },
            { committed = "t/0", is = ["none"] },
            { next_error = true, error = "_TIMED_OUT", says = "late" },
        ]
    "#;

    const ANSWERS: &str = r#"{"scenario":"two","step":0,"result":{"deliveries":[{"partition":0,"offset":0},{"partition":0,"offset":1},{"error":{"code":"_UNKNOWN_PARTITION","message":"?"}}]}}
{"scenario":"two","step":1000,"result":{"ok":true}}
{"scenario":"two","step":1001,"result":{"records":[{"topic":"t","partition":0,"offset":0,"timestamp":1000,"key":"61","value":"31","headers":[["h","78"],["null",null]]},{"topic":"t","partition":0,"offset":1,"timestamp":5,"key":null,"value":"00ff","headers":[]}],"ends":[["t",0,2]]}}
{"scenario":"two","step":1002,"result":{"offsets":[null]}}
{"scenario":"two","step":1003,"result":{"error":{"code":"_TIMED_OUT","message":"too late"}}}"#;

    fn differences(list: &str, told: &str) -> Vec<String> {
        let list = parse(list).expect("the list is right");
        let told = answers(told).expect("the answers can be read");
        judge(
            &list[0],
            Part::Both,
            Language::Rust,
            &told,
            &mut Log::default(),
            (1, 10),
        )
    }

    #[test]
    fn what_is_as_expected_makes_no_difference() {
        assert_eq!(differences(LIST, ANSWERS), Vec::<String>::new());
    }

    #[test]
    fn every_wrong_expectation_is_reported() {
        for (right, wrong, report) in [
            (
                r#"value = "1""#,
                r#"value = "2""#,
                "value: expected \"2\", read \"1\"",
            ),
            (r#"key = "a", "#, "", "key: expected null, read \"a\""),
            (
                r#"{ hex = "00ff" }"#,
                r#"{ hex = "00fe" }"#,
                "value: expected 0x00fe, read 0x00ff",
            ),
            (r#"["null"]"#, r#"["null", ""]"#, "headers: expected"),
            (
                "timestamp = 1000, ",
                "",
                "timestamp: expected one of this run (1 to 10), read 1000",
            ),
            (
                "timestamp = 1000",
                "timestamp = 1001",
                "timestamp: expected 1001, read 1000",
            ),
            ("t/0 ..", "t/0 1..", "expected the offsets 1..2, read 0..2"),
            ("t/0 ..", "t/1 ..", "t/0: expected nothing, read 2 records"),
            (
                r#"is = ["none"]"#,
                "is = [0]",
                "expected the offsets [Number(0)]",
            ),
            (
                r#"error = "_TIMED_OUT""#,
                r#"error = "_STATE""#,
                "expected the error _STATE",
            ),
            (
                r#"says = "late""#,
                r#"says = "early""#,
                "expected an error that says \"early\"",
            ),
            (
                r#", error = "_UNKNOWN_PARTITION""#,
                "",
                "record 2: expected its delivery, got",
            ),
            (
                r#"value = { hex = "00ff" }, partition = 0"#,
                r#"value = { hex = "00ff" }, lands = 1"#,
                "record 1: expected in partition 1",
            ),
        ] {
            assert!(LIST.contains(right), "{right}");
            let found = differences(&LIST.replacen(right, wrong, 1), ANSWERS);
            assert!(
                found.iter().any(|what| what.contains(report)),
                "{report}: {found:?}"
            );
        }
    }

    #[test]
    fn every_wrong_answer_is_reported() {
        for (right, wrong, report) in [
            (
                r#""offset":1}"#,
                r#""offset":2}"#,
                "record 1: expected at offset 1 of t/0, delivered at 2",
            ),
            (
                r#"{"partition":0,"offset":1},"#,
                "null,",
                "record 1: neither delivered nor failed",
            ),
            (
                r#"{"partition":0,"offset":1},"#,
                "",
                "expected 3 deliveries",
            ),
            (
                r#"{"ok":true}"#,
                r#"{"error":{"code":"_STATE","message":"no"}}"#,
                "expected no error, got \"_STATE\" \"no\"",
            ),
            (
                r#"[["t",0,2]]"#,
                "[]",
                "expected the ends [[\"t\",0,2]], got []",
            ),
            (
                r#""offset":1,"timestamp""#,
                r#""offset":0,"timestamp""#,
                "expected the offsets 0..2, read 0..1, 0..1",
            ),
            (
                r#""value":"00ff""#,
                r#""value":null"#,
                "t/0 offset 1: value: expected 0x00ff, read null",
            ),
            (r#""step":1002"#, r#""step":1009"#, "read step 3: no answer"),
        ] {
            assert!(ANSWERS.contains(right), "{right}");
            let found = differences(LIST, &ANSWERS.replacen(right, wrong, 1));
            assert!(
                found.iter().any(|what| what.contains(report)),
                "{report}: {found:?}"
            );
        }
    }
}
