//! Transactional producers that follow a script, and who reads what they commit.
//!
//! The client library has no transactional producer, so these speak the protocol themselves, in random versions, each message
//! through the codec and back, over the same connections as everybody. A producer has one request under way at a time and repeats it
//! with the same contents until it knows the outcome. Instances with one transactional id take each other's place while the old
//! one goes on; some end without a word in the middle of a transaction; some `EndTxn` have a copy that comes later.

mod asking;
mod outcomes;
mod reading;

use std::collections::{BTreeMap, VecDeque};

use ottla_protocol::{
    ErrorCode,
    messages::{
        end_txn::EndTxnRequest,
        init_producer_id::InitProducerIdRequest,
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
    },
};

use self::{
    asking::{Ask, TIMEOUT_MS},
    outcomes::{error_of, passes},
    reading::{Reader, miss_markers},
};
use super::{
    speakers::{Line, Speaker},
    *,
};
use crate::transactions::{Fate, Ledger};

/// Where transactions write to.
const TOPIC: Str = Str::from_static("tx");
const PARTITIONS: i32 = 2;

#[derive(Default)]
struct Producer {
    name: usize,
    /// Of transaction version 2 (KIP-890).
    v2: bool,
    id: (i64, i16),
    sequences: BTreeMap<i32, i32>,
    /// Its transaction, and since when it has it.
    open: Option<(usize, u64)>,
    plan: VecDeque<Ask>,
    steps: u64,
    added: Vec<i32>,
    added_offsets: bool,
    /// A commit may have arrived without an answer, or may still arrive.
    uncertain: bool,
    /// How many times the broker was asked for its producer id, by anybody, up to when it was by this one last.
    asked: u64,
}

enum Does {
    Produces(Producer),
    Reads(Reader),
    Asks,
}

struct Script {
    does: Does,
    ask: Option<Ask>,
    line: Line,
}

struct Name {
    text: Str,
    left: u64,
    /// How many times the broker was asked for its producer id. What counts is when a request arrives, not when it is sent.
    asked: u64,
    /// The newest producer id and epoch that anybody was given.
    newest: (i64, i16),
}

impl Name {
    /// Whether nobody asked for its producer id after this producer did, so that nobody can have shut it out.
    fn is_newest(&self, p: &Producer) -> bool {
        self.asked == p.asked
    }
}

/// The transactions of a run.
pub(super) struct Transactions {
    random: Random,
    names: Vec<Name>,
    scripts: Vec<Script>,
    pub ledger: Ledger,
    /// Everybody was sent home.
    over: bool,
}

impl Transactions {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed ^ 0x7478_6e73),
            names: Vec::new(),
            scripts: Vec::new(),
            ledger: Ledger::default(),
            over: false,
        }
    }

    /// Whether all scripts have come to their end, but for readers that have none.
    pub fn has_settled(&self) -> bool {
        let endless = |does: &Does| matches!(does, Does::Reads(Reader { last: false, .. }));
        let mut scripts = self.scripts.iter();
        scripts.all(|script| script.line.done || endless(&script.does))
    }

    fn add(&mut self, does: Does, ask: Option<Ask>) -> usize {
        self.scripts.push(Script {
            does,
            ask,
            line: Line::default(),
        });
        self.scripts.len() - 1
    }

    fn add_producer(&mut self, name: usize) -> usize {
        let producer = Producer {
            name,
            v2: self.random.chance(650),
            ..Producer::default()
        };
        self.add(Does::Produces(producer), Some(Ask::Init))
    }
}

impl World {
    /// In some runs there are transactions.
    pub(super) fn prepare_transactions(&mut self) {
        self.config.transactions.partitions = 2;
        self.config.transactions.abort_timed_out_interval_ms = 200;
        let it = &mut self.transactions;
        if !it.random.chance(400) {
            return;
        }
        for n in 0..it.random.between(1, 2) {
            it.names.push(Name {
                text: format!("x{n}").as_str().into(),
                left: it.random.between(3, 9),
                asked: 0,
                newest: (-1, -1),
            });
        }
        let first = it.add(Does::Asks, Some(Ask::Create));
        self.script_after(first, 1000);
    }

    /// The topic is there: everybody begins.
    fn start_transactions(&mut self) {
        let it = &mut self.transactions;
        let mut new = vec![it.add(Does::Reads(Reader::default()), Some(Ask::Fetch))];
        for name in 0..it.names.len() {
            new.push(it.add_producer(name));
        }
        for index in new {
            let delay = self.transactions.random.below(200_000);
            self.script_after(index, delay);
        }
    }

    /// A request arrives, and whose it is, if its connection is there still.
    pub(super) fn transactions_arrive(&mut self, speaker: Option<Speaker>, request: &Request) {
        let Request::InitProducerId(InitProducerIdRequest {
            transactional_id: Some(id),
            ..
        }) = request
        else {
            return;
        };
        let it = &mut self.transactions;
        let Some(name) = it.names.iter_mut().find(|name| name.text == *id) else {
            return;
        };
        name.asked += 1;
        if let Some(Speaker::Script(index)) = speaker
            && let Does::Produces(p) = &mut it.scripts[index].does
        {
            p.asked = name.asked;
        }
    }

    /// Everybody leaves.
    pub(super) fn end_transactions(&mut self) {
        self.transactions.over = true;
        for index in 0..self.transactions.scripts.len() {
            self.script_ends(index);
        }
    }

    /// After everything: what is there, and what the groups' offsets are.
    pub(super) fn read_transactions(&mut self) {
        let it = &mut self.transactions;
        if it.names.is_empty() {
            return;
        }
        let reader = Reader {
            last: true,
            ..Reader::default()
        };
        let mut new = vec![it.add(Does::Reads(reader), Some(Ask::Fetch))];
        for name in 0..it.names.len() {
            new.push(it.add(Does::Asks, Some(Ask::FetchOffset(name))));
        }
        for index in new {
            self.script_after(index, 1000);
        }
    }

    /// The line of a script.
    pub(super) fn script_line(&mut self, index: usize) -> &mut Line {
        &mut self.transactions.scripts[index].line
    }

    fn script_after(&mut self, index: usize, us: u64) {
        self.speaks_after(Speaker::Script(index), us);
    }

    fn script_ends(&mut self, index: usize) {
        self.speaks_no_more(Speaker::Script(index));
        let Does::Produces(p) = &self.transactions.scripts[index].does else {
            return;
        };
        let name = p.name;
        trace!(self, "script {index} ends");
        let alive =
            |it: &Script| !it.line.done && matches!(&it.does, Does::Produces(p) if p.name == name);
        if self.transactions.names[name].left > 0
            && !self.transactions.scripts.iter().any(alive)
            && !self.transactions.over
        {
            self.another_instance(name);
        }
    }

    fn another_instance(&mut self, name: usize) {
        let index = self.transactions.add_producer(name);
        let delay = self.transactions.random.below(100_000);
        self.script_after(index, delay);
    }

    /// It has a connection, and nothing under way.
    pub(super) fn script_speaks(&mut self, index: usize, conn: BrokerConn) {
        let script = &mut self.transactions.scripts[index];
        if script.ask.is_none() {
            let ask = self.transactions.next(index, self.now_us);
            let Some(ask) = ask else {
                return self.script_ends(index);
            };
            let it = &mut self.transactions;
            it.scripts[index].ask = Some(ask.clone());
            if let Ask::End(_) = ask {
                self.asks_for_the_end(index);
            } else if self.chaos
                && it.random.chance(25)
                && let Does::Produces(Producer { name, .. }) = it.scripts[index].does
            {
                self.another_instance(name);
            }
        }
        let Some((version, mut request)) = self.transactions.request(index) else {
            return;
        };
        self.plant_in_transaction(conn, &mut request);
        self.speaks(Speaker::Script(index), conn, version, &request);
    }

    /// Planted: the request as the broker gets it.
    fn plant_in_transaction(&mut self, conn: BrokerConn, request: &mut Request) {
        match (self.planted, request) {
            (Some(Bug::EndTxnUnfenced), Request::EndTxn(end)) => {
                let names = &self.transactions.names;
                if let Some(name) = names.iter().find(|name| name.text == end.transactional_id) {
                    (end.producer_id, end.producer_epoch) = name.newest;
                }
            }
            (Some(Bug::UncommittedRead), Request::Fetch(fetch)) => fetch.isolation_level = 0,
            (Some(Bug::OffsetsAtOnce), Request::TxnOffsetCommit(commit)) => {
                let plain = OffsetCommitRequest {
                    group_id: commit.group_id.clone(),
                    topics: vec![OffsetCommitRequestTopic {
                        name: TOPIC,
                        partitions: vec![OffsetCommitRequestPartition {
                            committed_offset: commit.topics[0].partitions[0].committed_offset,
                            ..Default::default()
                        }],
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                self.send(conn, -7, 8, Request::OffsetCommit(plain));
            }
            _ => {}
        }
    }

    /// A decision is about to be asked for, and sometimes a copy of it is on its way too.
    fn asks_for_the_end(&mut self, index: usize) {
        let it = &mut self.transactions;
        let script = &mut it.scripts[index];
        let (Does::Produces(p), Some(Ask::End(committed))) = (&mut script.does, &script.ask) else {
            return;
        };
        let committed = *committed;
        if committed && let Some((number, _)) = p.open {
            it.ledger.knows(number, Fate::Unknown);
        }
        // Nothing tells a late one of version 1 from the end of the next transaction.
        if p.v2 && self.chaos && it.random.chance(200) {
            p.uncertain = true;
            let copy = EndTxnRequest {
                transactional_id: it.names[p.name].text.clone(),
                producer_id: p.id.0,
                producer_epoch: p.id.1,
                committed,
            };
            let late = it.add(Does::Asks, Some(Ask::Late(copy)));
            let delay = self.transactions.random.below(400_000);
            self.script_after(late, delay);
        }
    }

    /// The connection is gone, and with it perhaps an answer; the pause before it is back.
    pub(super) fn script_is_cut_off(&mut self, index: usize, waited: bool) -> u64 {
        let script = &mut self.transactions.scripts[index];
        let mut pause = self.transactions.random.below(30_000);
        if let Does::Produces(p) = &mut script.does {
            p.uncertain |= waited && matches!(script.ask, Some(Ask::End(_)));
            if !p.v2 {
                // A request of version 1 that arrives late could hit what is asked next.
                pause += self.slowest_us * 4 + 1000;
            }
        }
        pause
    }

    pub(super) fn script_hears(&mut self, index: usize, mut response: Response) {
        if let (Some(Bug::MarkerMissing), Response::Fetch(fetch)) = (self.planted, &mut response) {
            miss_markers(fetch);
        }
        let mut pause = match self.transactions.random.below(20) {
            0 => self.transactions.random.below(400_000),
            _ => self.transactions.random.below(20_000),
        };
        let error = error_of(&response);
        match response {
            Response::Fetch(fetch) => {
                self.reads_transactions(index, fetch);
                pause = pause.max(10_000);
            }
            Response::OffsetFetch(answer) => self.hears_offset(index, &answer),
            _ if error == ErrorCode::NONE => self.succeeds(index, &response),
            _ if passes(error) => {
                pause += 10_000;
                // What a write that failed leaves in the log may count after a restart: that decision was made.
                let script = &mut self.transactions.scripts[index];
                if let (Does::Produces(p), Some(Ask::End(_))) = (&mut script.does, &script.ask) {
                    p.uncertain = true;
                }
            }
            _ => self.fails(index, error),
        }
        if !self.script_line(index).done {
            self.script_after(index, pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_last_is_who_arrived_last() {
        let mut world = World::new(1, Options::default());
        world.transactions.names.push(Name {
            text: "x".into(),
            left: 1,
            asked: 0,
            newest: (-1, -1),
        });
        let [first, second] = [0, 0].map(|name| world.transactions.add_producer(name));
        let mut newest_after = |speaker| {
            let request = InitProducerIdRequest {
                transactional_id: Some("x".into()),
                ..Default::default()
            };
            world.transactions_arrive(speaker, &Request::InitProducerId(request));
            let it = &world.transactions;
            [first, second].map(|index| match &it.scripts[index].does {
                Does::Produces(p) => it.names[0].is_newest(p),
                _ => panic!("a producer"),
            })
        };
        // Whichever was sent before the other.
        assert_eq!(newest_after(Some(Speaker::Script(second))), [false, true]);
        assert_eq!(newest_after(Some(Speaker::Script(first))), [true, false]);
        // One of a connection that broke meanwhile.
        assert_eq!(newest_after(None), [false, false]);
    }
}
