//! Members at random against the whole broker, held against what must be true of every record: nobody has it while another
//! does, it is delivered as often as it says, what was accepted never comes again, and nothing is lost.

use alloc::{collections::BTreeMap, format, vec::Vec};

use super::tests::{Share, runs};
use crate::{Durability, random::Random, testing::CONN};
use ottla_protocol::ErrorCode;

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const LOCK_MS: u64 = 30_000;
const LIMIT: i16 = 5;

/// What is known of one record from outside.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Deliveries that count; a crash forgets those that nobody answered for.
    count: i16,
    /// As of the last time that it was written down.
    written: i16,
    holder: Option<(usize, u64)>,
    /// Accepted or rejected, or delivered too often.
    done: bool,
}

struct Run {
    s: Share,
    random: Random,
    records: Vec<Seen>,
    /// Epochs of the members' sessions; 0 if there is none.
    epochs: [i32; 3],
    /// Holders and counts by offset; ends are checked lazily.
    delivered: BTreeMap<i64, u32>,
}

impl Run {
    fn now_ms(&self) -> u64 {
        self.s.h.now.mono_us / 1000
    }

    fn release(seen: &mut Seen) {
        seen.holder = None;
        seen.done |= seen.count >= LIMIT;
        seen.written = seen.count;
    }

    fn expire(&mut self) {
        let now = self.now_ms();
        for seen in &mut self.records {
            if seen.holder.is_some_and(|(_, until)| until <= now) {
                Self::release(seen);
            }
        }
    }

    fn produce(&mut self) {
        let n = 1 + self.random.next_u64() % 6;
        let values: Vec<_> = (0..n).map(|i| format!("{i}")).collect();
        let values: Vec<&str> = values.iter().map(|v| v.as_str()).collect();
        self.s.produce(&values);
        let records = self.records.len() + values.len();
        self.records.resize(records, Seen::default());
    }

    fn fetch(&mut self, who: usize) {
        let request = {
            let mut request = self.s.fetch_request(MEMBERS[who], self.epochs[who], &[]);
            request.max_records = 1 + (self.random.next_u64() % 8) as i32;
            request.batch_size = 1 + (self.random.next_u64() % 4) as i32;
            request.share_acquire_mode = (self.random.next_u64() % 2) as i8;
            request
        };
        let (strict, most) = (request.share_acquire_mode == 1, request.max_records);
        let id = self.s.send_fetch(CONN, request);
        self.s.h.sync_all();
        let answer = self.s.answer(id).expect("an answer");
        self.epochs[who] += 1;
        let mut taken = 0;
        let sent: Vec<i64> = answer
            .responses
            .iter()
            .flat_map(|t| &t.partitions)
            .flat_map(|p| crate::testing::read(&p.records))
            .map(|(offset, _)| offset)
            .collect();
        for (first, last, count) in runs(&answer) {
            for offset in first..=last {
                taken += 1;
                assert!(sent.contains(&offset), "it comes with what it tells of");
                let until = self.now_ms() + LOCK_MS;
                let seen = &mut self.records[offset as usize];
                assert!(!seen.done, "{offset} was done with");
                assert_eq!(seen.holder, None, "{offset} is somebody's");
                seen.count += 1;
                assert_eq!(seen.count, count, "{offset}");
                assert!(count <= LIMIT);
                seen.holder = Some((who, until));
                *self.delivered.entry(offset).or_default() += 1;
            }
        }
        assert!(!strict || taken <= most);
    }

    fn acknowledge(&mut self, who: usize) {
        let held: Vec<i64> = self
            .records
            .iter()
            .enumerate()
            .filter(|(_, seen)| seen.holder.is_some_and(|(m, _)| m == who))
            .map(|(offset, _)| offset as i64)
            .collect();
        let mut acks: Vec<(i64, i64, [i8; 1])> = Vec::new();
        for offset in held {
            if self.random.next_u64().is_multiple_of(3) {
                continue;
            }
            let kind = (self.random.next_u64() % 5) as i8;
            acks.push((offset, offset, [kind]));
        }
        // Now and then one that is not its own: then nothing of it all counts.
        let wrong = self.random.next_u64().is_multiple_of(6);
        if wrong {
            let others = self
                .records
                .iter()
                .position(|seen| !seen.done && seen.holder.is_none_or(|(m, _)| m != who));
            match others {
                Some(offset) => acks.push((offset as i64, offset as i64, [1])),
                None => return,
            }
            acks.sort_unstable();
        }
        let asked: Vec<(i64, i64, &[i8])> = acks.iter().map(|(f, l, t)| (*f, *l, &t[..])).collect();
        let code = self.s.acked(MEMBERS[who], self.epochs[who], &asked);
        self.epochs[who] += 1;
        if wrong {
            // The second one of records that nobody was given yet.
            let refusals = [ErrorCode::INVALID_RECORD_STATE, ErrorCode::INVALID_REQUEST];
            return assert!(refusals.contains(&code), "{code:?}");
        }
        assert_eq!(code, ErrorCode::NONE, "{acks:?}");
        let until = self.now_ms() + LOCK_MS;
        for (offset, _, [kind]) in acks {
            let seen = &mut self.records[offset as usize];
            match kind {
                4 => seen.holder = Some((who, until)),
                2 => Self::release(seen),
                _ => {
                    seen.holder = None;
                    seen.done = true;
                }
            }
        }
    }

    fn close(&mut self, who: usize) {
        let answer = self.s.acknowledge(MEMBERS[who], -1, &[]);
        assert_eq!(answer.error_code, ErrorCode::NONE);
        self.epochs[who] = 0;
        for seen in &mut self.records {
            if seen.holder.is_some_and(|(m, _)| m == who) {
                Self::release(seen);
            }
        }
    }

    fn restart(mut self, clean: bool) -> Self {
        self.s = self.s.restart(clean);
        self.s.h.sync_all();
        self.epochs = [0; 3];
        for seen in &mut self.records {
            if seen.holder.take().is_some() {
                seen.count = seen.written;
            }
        }
        self
    }

    /// Everything that is left comes.
    fn drain(mut self) {
        self.s.h.pass_ms(LOCK_MS);
        self.expire();
        let left: Vec<usize> = (0..self.records.len())
            .filter(|offset| !self.records[*offset].done)
            .collect();
        let mut got: Vec<usize> = Vec::new();
        let mut epoch = self.epochs[0];
        loop {
            let answer = self.s.fetch("a", epoch, &[]);
            epoch += 1;
            let runs = runs(&answer);
            if runs.is_empty() && epoch > 2 {
                break;
            }
            for (first, last, _) in runs {
                got.extend(first as usize..=last as usize);
            }
        }
        assert_eq!(got, left, "nothing more and nothing less");
    }
}

fn run(seed: u64) {
    let durability = if seed.is_multiple_of(2) {
        Durability::Os
    } else {
        Durability::Fsync
    };
    let mut s = Share::new(durability);
    s.join("a");
    let mut run = Run {
        s,
        random: Random::new(seed),
        records: Vec::new(),
        epochs: [0; 3],
        delivered: BTreeMap::new(),
    };
    for _ in 0..120 {
        let who = (run.random.next_u64() % 3) as usize;
        match run.random.next_u64() % 16 {
            0..3 => run.produce(),
            3..9 => run.fetch(who),
            9..13 if run.epochs[who] > 0 => run.acknowledge(who),
            13 if run.epochs[who] > 0 => run.close(who),
            14 => {
                let ms = run.random.next_u64() % LOCK_MS;
                run.s.h.pass_ms(ms);
                // A sync that took so long would make others wait, and time pass where this model doesn't see it.
                run.s.h.sync_all();
                run.expire();
            }
            15 if run.random.next_u64().is_multiple_of(3) => {
                let clean = run.random.next_u64().is_multiple_of(2);
                run = run.restart(clean);
            }
            _ => {}
        }
    }
    assert!(run.records.is_empty() || !run.delivered.is_empty());
    run.drain();
}

#[test]
fn members_at_random() {
    for seed in 0..400 {
        run(seed);
    }
}
