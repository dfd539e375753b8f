//! What writers did and were told, what was read afterwards, and whether the two agree.
//!
//! A writer writes a line per event to its standard output, which its parent reads: a kill takes nothing back of it. A reader does
//! the same with what it finds. Words are separated by spaces; topics have none in their names.

use crate::mark::Mark;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// A topic's partition.
pub type Part = (String, i32);

/// One event; the line is its `Display`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A writer is about to send a record.
    Sent(Mark),
    /// It was acknowledged: where it is.
    Acknowledged(Mark, Part, i64),
    /// A consumer read it there.
    Read(Mark, Part, i64),
    /// A commit of an offset begins.
    Committing(Part, i64),
    /// It was acknowledged; or a reader was told that it is committed.
    Committed(Part, i64),
    /// A topic's creation was acknowledged.
    Created(String),
    /// A topic's deletion begins.
    Deleting(String),
    /// It was acknowledged.
    Deleted(String),
    /// Records below an offset may be deleted from now on.
    Trimming(Part, i64),
    /// A reader found a topic.
    Topic(String),
    /// A reader found a partition with these first and next offsets.
    Bounds(Part, i64, i64),
    /// A reader could not make sense of what is at an offset.
    Bad(Part, i64, String),
    /// A counter of the process' own.
    Count(u64),
    /// All was done that was to be done.
    Done,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Part| format!("{} {}", part.0, part.1);
        match self {
            Self::Sent(m) => write!(f, "sent {} {}", m.writer, m.count),
            Self::Acknowledged(m, p, o) => {
                write!(f, "acknowledged {} {} {} {o}", m.writer, m.count, part(p))
            }
            Self::Read(m, p, o) => write!(f, "read {} {} {} {o}", m.writer, m.count, part(p)),
            Self::Committing(p, o) => write!(f, "committing {} {o}", part(p)),
            Self::Committed(p, o) => write!(f, "committed {} {o}", part(p)),
            Self::Created(t) => write!(f, "created {t}"),
            Self::Deleting(t) => write!(f, "deleting {t}"),
            Self::Deleted(t) => write!(f, "deleted {t}"),
            Self::Trimming(p, o) => write!(f, "trimming {} {o}", part(p)),
            Self::Topic(t) => write!(f, "topic {t}"),
            Self::Bounds(p, start, end) => write!(f, "bounds {} {start} {end}", part(p)),
            Self::Bad(p, o, why) => write!(f, "bad {} {o} {}", part(p), why.replace('\n', " ")),
            Self::Count(n) => write!(f, "count {n}"),
            Self::Done => write!(f, "done"),
        }
    }
}

impl Event {
    /// Reads a line; `None` if it is none of ours.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let word = words.next()?;
        if word == "bad" {
            let mut words = line.splitn(5, ' ').skip(1);
            let part = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            return Some(Self::Bad(
                part,
                words.next()?.parse().ok()?,
                words.next()?.into(),
            ));
        }
        let words: Vec<&str> = words.collect();
        let number = |at: usize| words.get(at)?.parse::<i64>().ok();
        let text = |at: usize| words.get(at).map(|word| (*word).to_owned());
        let part = |at: usize| Some((text(at)?, number(at + 1)? as i32));
        let mark = || {
            Some(Mark {
                writer: number(0)? as u32,
                count: number(1)? as u32,
            })
        };
        let event = match word {
            "sent" => Self::Sent(mark()?),
            "acknowledged" => Self::Acknowledged(mark()?, part(2)?, number(4)?),
            "read" => Self::Read(mark()?, part(2)?, number(4)?),
            "committing" => Self::Committing(part(0)?, number(2)?),
            "committed" => Self::Committed(part(0)?, number(2)?),
            "created" => Self::Created(text(0)?),
            "deleting" => Self::Deleting(text(0)?),
            "deleted" => Self::Deleted(text(0)?),
            "trimming" => Self::Trimming(part(0)?, number(2)?),
            "topic" => Self::Topic(text(0)?),
            "bounds" => Self::Bounds(part(0)?, number(2)?, number(3)?),
            "count" => Self::Count(number(0)? as u64),
            "done" => Self::Done,
            _ => return None,
        };
        // A line that was cut short may read like another one.
        (event.to_string() == line).then_some(event)
    }

    /// Whether it tells that something is tried, as opposed to that it is so.
    pub fn is_attempt(&self) -> bool {
        matches!(
            self,
            Self::Sent(_) | Self::Committing(..) | Self::Deleting(_) | Self::Trimming(..)
        )
    }

    /// Writes the line to standard output, in one system call.
    pub fn tell(&self) {
        use std::io::Write;
        let line = format!("{self}\n");
        // Whoever reads it may be gone: then nobody wants to know.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }
}

/// What writers did to one data directory, over any number of kills.
#[derive(Default)]
pub struct History {
    sent: HashSet<Mark>,
    acknowledged: HashMap<Mark, (Part, i64)>,
    /// What was seen at an offset, by a writer's acknowledgement or by any reader.
    seen: HashMap<(Part, i64), Mark>,
    tried: HashMap<Part, i64>,
    committed: HashMap<Part, i64>,
    trimming: HashMap<Part, i64>,
    created: HashSet<String>,
    deleting: HashSet<String>,
    deleted: HashSet<String>,
}

impl History {
    /// Adds what a writer told. Violations that can be seen without reading anything are returned.
    pub fn add(&mut self, events: &[Event]) -> Vec<String> {
        let mut wrong = Vec::new();
        for event in events {
            match event.clone() {
                Event::Sent(mark) => drop(self.sent.insert(mark)),
                Event::Acknowledged(mark, part, offset) => {
                    // A record that a rig pretends to have written has no offset.
                    if offset >= 0 {
                        wrong.extend(self.note(mark, &part, offset));
                    }
                    self.acknowledged.insert(mark, (part, offset));
                }
                Event::Read(mark, part, offset) => wrong.extend(self.note(mark, &part, offset)),
                Event::Committing(part, offset) => raise(&mut self.tried, part, offset),
                Event::Committed(part, offset) => raise(&mut self.committed, part, offset),
                Event::Created(topic) => drop(self.created.insert(topic)),
                Event::Deleting(topic) => drop(self.deleting.insert(topic)),
                Event::Deleted(topic) => drop(self.deleted.insert(topic)),
                Event::Trimming(part, offset) => raise(&mut self.trimming, part, offset),
                Event::Bad(part, offset, why) => {
                    wrong.push(format!("{part:?} at {offset}: {why}"));
                }
                _ => {}
            }
        }
        wrong
    }

    /// Acknowledged records so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Something was seen at an offset: nothing else may ever be there.
    fn note(&mut self, mark: Mark, part: &Part, offset: i64) -> Option<String> {
        let before = self.seen.insert((part.clone(), offset), mark)?;
        (before != mark)
            .then(|| format!("{part:?}: {before:?} was at offset {offset}, now it is {mark:?}"))
    }

    /// Compares with all that a reader found afterwards.
    pub fn check(&mut self, found: &[Event]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut topics = HashSet::new();
        let mut bounds: HashMap<Part, (i64, i64)> = HashMap::new();
        let mut records: HashMap<Part, BTreeMap<i64, Mark>> = HashMap::new();
        let mut committed: HashMap<Part, i64> = HashMap::new();
        for event in found {
            match event.clone() {
                Event::Topic(topic) => drop(topics.insert(topic)),
                Event::Bounds(part, start, end) => drop(bounds.insert(part, (start, end))),
                Event::Committed(part, offset) => drop(committed.insert(part, offset)),
                Event::Bad(part, offset, why) => {
                    wrong.push(format!("{part:?} at offset {offset}: {why}"));
                }
                Event::Read(mark, part, offset) => {
                    if !self.sent.contains(&mark) {
                        wrong.push(format!("{part:?} at {offset}: nobody sent {mark:?}"));
                    }
                    wrong.extend(self.note(mark, &part, offset));
                    records.entry(part).or_default().insert(offset, mark);
                }
                _ => {}
            }
        }
        if found.last() != Some(&Event::Done) {
            wrong.push("the directory could not be read to the end".into());
            return wrong;
        }
        let gone = |topic: &str| self.deleting.contains(topic);
        for topic in self.created.iter().filter(|topic| !gone(topic)) {
            if !topics.contains(topic) {
                wrong.push(format!("topic {topic} is lost"));
            }
        }
        for topic in self.deleted.intersection(&topics) {
            wrong.push(format!("topic {topic} was deleted and is back"));
        }
        let mut lost = Vec::new();
        for (mark, (part, offset)) in &self.acknowledged {
            let trimmed = self.trimming.get(part).is_some_and(|start| offset < start);
            let there = records.get(part).is_some_and(|records| match offset {
                0.. => records.get(offset) == Some(mark),
                _ => records.values().any(|found| found == mark),
            });
            if !there && !trimmed && !gone(&part.0) {
                lost.push((part, *offset, *mark));
            }
        }
        lost.sort();
        if let Some(first) = lost.first() {
            wrong.push(format!(
                "{} acknowledged records are lost, first {first:?}",
                lost.len()
            ));
        }
        for (part, (start, end)) in &bounds {
            let may_start = self.trimming.get(part).copied().unwrap_or(0);
            if *start > may_start {
                wrong.push(format!("{part:?} begins at {start}"));
            }
            let offsets: Vec<i64> = records
                .get(part)
                .map(|records| records.keys().copied().collect())
                .unwrap_or_default();
            if offsets != (*start..*end).collect::<Vec<_>>() {
                wrong.push(format!(
                    "{part:?} has {start} to {end}, {} records could be read",
                    offsets.len()
                ));
            }
        }
        let mut once = HashSet::new();
        for (part, records) in &records {
            let mut last: HashMap<u32, u32> = HashMap::new();
            for (offset, mark) in records.iter().filter(|(_, mark)| mark.is_idempotent()) {
                if !once.insert(*mark) {
                    wrong.push(format!("{part:?} at {offset}: a duplicate of {mark:?}"));
                }
                if let Some(before) = last.insert(mark.writer, mark.count)
                    && before > mark.count
                {
                    wrong.push(format!("{part:?} at {offset}: {mark:?} after {before}"));
                }
            }
        }
        for (part, acknowledged) in self.committed.iter().filter(|(part, _)| !gone(&part.0)) {
            let now = committed.get(part).copied().unwrap_or(-1);
            if now < *acknowledged {
                wrong.push(format!(
                    "{part:?}: {acknowledged} was committed, now it is {now}"
                ));
            }
        }
        for (part, now) in &committed {
            if *now > self.tried.get(part).copied().unwrap_or(-1) {
                wrong.push(format!("{part:?}: nobody committed {now}"));
            }
            if let Some((_, end)) = bounds.get(part)
                && now > end
            {
                wrong.push(format!(
                    "{part:?}: {now} is committed, but it ends at {end}"
                ));
            }
        }
        wrong
    }
}

fn raise(offsets: &mut HashMap<Part, i64>, part: Part, offset: i64) {
    let known = offsets.entry(part).or_insert(offset);
    *known = (*known).max(offset);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Part {
        ("t".into(), 0)
    }

    fn mark(count: u32) -> Mark {
        Mark { writer: 4, count }
    }

    fn written() -> Vec<Event> {
        let mut events: Vec<Event> = (0..3).map(|n| Event::Sent(mark(n))).collect();
        events.extend((0..2).map(|n| Event::Acknowledged(mark(n), part(), n.into())));
        events.push(Event::Created("t".into()));
        events.push(Event::Committing(part(), 1));
        events.push(Event::Committed(part(), 1));
        events
    }

    fn found() -> Vec<Event> {
        let mut events = vec![Event::Topic("t".into()), Event::Bounds(part(), 0, 3)];
        events.extend((0..3).map(|n| Event::Read(mark(n), part(), n.into())));
        events.extend([Event::Committed(part(), 1), Event::Done]);
        events
    }

    fn verdict(found: &[Event]) -> Vec<String> {
        let mut history = History::default();
        let mut wrong = history.add(&written());
        wrong.extend(history.check(found));
        wrong
    }

    #[test]
    fn what_is_right_is_right() {
        assert_eq!(verdict(&found()), [""; 0]);
    }

    #[test]
    fn everything_that_is_wrong_is_found() {
        let without = |at: usize| {
            let mut found = found();
            found.remove(at);
            found
        };
        let with = |at: usize, event: Event| {
            let mut found = found();
            found[at] = event;
            found
        };
        let read = |count, offset| Event::Read(mark(count), part(), offset);
        let cases = [
            ("topic t is lost", without(0)),
            ("records are lost", without(3)),
            ("could be read", without(4)),
            ("now it is -1", without(5)),
            ("to the end", without(6)),
            ("now it is Mark", with(2, read(1, 0))),
            ("duplicate", with(4, read(1, 2))),
            ("nobody sent", with(4, read(9, 2))),
            ("nobody committed", with(5, Event::Committed(part(), 2))),
            ("begins at 1", with(1, Event::Bounds(part(), 1, 3))),
            ("rotten", with(4, Event::Bad(part(), 2, "rotten".into()))),
        ];
        for (expected, found) in cases {
            let wrong = verdict(&found);
            assert!(
                wrong.iter().any(|what| what.contains(expected)),
                "{expected}: {wrong:?}"
            );
        }
    }

    #[test]
    fn lines_and_back() {
        let mut events = [written(), found()].concat();
        events.push(Event::Bad(part(), 7, "two words".into()));
        for event in events {
            let line = event.to_string();
            assert_eq!(Event::parse(&line), Some(event));
        }
        assert_eq!(Event::parse("sent 4"), None);
        assert_eq!(Event::parse("read 4 1 t 0 1x"), None);
    }
}
