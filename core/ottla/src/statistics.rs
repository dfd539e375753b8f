//! Statistics as JSON, in librdkafka's shape and with its names. What can't be known is left out.

use crate::{handle::Role, offset, shared::Shared};
use ottla_client::{
    BrokerStatistics, Client, ConsumedPartitionStatistics, PartitionStatistics, Statistics,
};
use std::{collections::BTreeMap, fmt::Display};

/// A JSON object that is being written.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".into())
    }

    fn key(&mut self, key: &str) -> &mut String {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0 += &quoted(key);
        self.0.push(':');
        &mut self.0
    }

    /// A number, or `true` and `false`.
    fn plain(&mut self, key: &str, value: impl Display) -> &mut Self {
        let value = value.to_string();
        *self.key(key) += &value;
        self
    }

    fn text(&mut self, key: &str, value: &str) -> &mut Self {
        *self.key(key) += &quoted(value);
        self
    }

    fn object(&mut self, key: &str, value: Object) -> &mut Self {
        *self.key(key) += &value.end();
        self
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// The text of a statistics event.
pub(crate) fn json(shared: &Shared, client: &mut Client, now_us: u64) -> String {
    let wall = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let statistics = client.statistics();
    let client = &*client;
    let config = client.config();
    let mut all = Object::new();
    all.text("name", &shared.name)
        .text("client_id", &config.client_id)
        .text(
            "type",
            match shared.role {
                Role::Producer => "producer",
                Role::Consumer => "consumer",
            },
        )
        .plain("ts", now_us)
        .plain("time", wall)
        .plain("age", now_us.saturating_sub(shared.born_us))
        .plain("replyq", shared.main_queue_len())
        .plain("msg_cnt", statistics.msg_cnt)
        .plain("msg_size", statistics.msg_size);
    if shared.role == Role::Producer {
        let bytes = u64::from(config.queue_buffering_max_kbytes) * 1024;
        all.plain("msg_max", config.queue_buffering_max_messages)
            .plain("msg_size_max", bytes);
    }
    all.plain("metadata_cache_cnt", client.metadata().topics().count())
        .object("brokers", brokers(&statistics, client))
        .object("topics", topics(&statistics, client));
    if config.group_id.is_some()
        && let Some(state) = statistics.join_state
    {
        all.object("cgrp", group(&statistics, client, state));
    }
    if let Some((id, epoch)) = statistics.producer_id {
        let mut eos = Object::new();
        let state = if id < 0 { "WaitPID" } else { "Assigned" };
        eos.text("idemp_state", state)
            .plain("producer_id", id)
            .plain("producer_epoch", epoch);
        all.object("eos", eos);
    }
    all.plain("tx", statistics.tx)
        .plain("rx", statistics.rx)
        .plain("txmsgs", statistics.producer.tx_messages)
        .plain("txmsg_bytes", statistics.producer.tx_bytes)
        .plain("rxmsgs", statistics.rx_messages)
        .plain("rxmsg_bytes", statistics.rx_bytes);
    all.end()
}

/// By librdkafka's names of brokers: `host:port/id`, and `GroupCoordinator` for the group's own connection.
fn brokers(statistics: &Statistics, client: &Client) -> Object {
    let leaders = |node: i32| {
        let produced = statistics
            .partitions
            .iter()
            .map(|p| (&p.topic, p.partition));
        let consumed = statistics.consumed.iter().map(|p| (&p.topic, p.partition));
        let mut led = Object::new();
        for (topic, partition) in produced.chain(consumed) {
            if leader_of(client, topic, partition) == Some(node) {
                let mut one = Object::new();
                one.text("topic", topic).plain("partition", partition);
                led.object(&format!("{topic}-{partition}"), one);
            }
        }
        led
    };
    let mut all = Object::new();
    for broker in &statistics.brokers {
        let BrokerStatistics { address, .. } = broker;
        let nodename = format!("{}:{}", address.host, address.port);
        let (name, source, nodeid) = match broker {
            BrokerStatistics {
                coordinator: true, ..
            } => ("GroupCoordinator".to_owned(), "logical", -1),
            BrokerStatistics { node: 0.., .. } => (
                format!("{nodename}/{}", broker.node),
                "learned",
                broker.node,
            ),
            _ => (format!("{nodename}/bootstrap"), "configured", -1),
        };
        let mut one = Object::new();
        one.text("name", &name)
            .plain("nodeid", nodeid)
            .text("nodename", &nodename)
            .text("source", source)
            .text("state", if broker.up { "UP" } else { "DOWN" })
            .plain("waitresp_cnt", broker.in_flight)
            .plain("tx", broker.counters.tx)
            .plain("req_timeouts", broker.counters.request_timeouts)
            .plain("rx", broker.counters.rx)
            .plain("connects", broker.counters.connects)
            .plain("disconnects", broker.counters.disconnects);
        let throttled = &broker.throttled;
        let mut window = Object::new();
        window
            .plain("min", throttled.min)
            .plain("max", throttled.max)
            .plain("avg", throttled.average())
            .plain("sum", throttled.sum)
            .plain("cnt", throttled.count);
        one.object("throttle", window);
        if nodeid >= 0 {
            one.object("toppars", leaders(nodeid));
        }
        all.object(&name, one);
    }
    all
}

fn leader_of(client: &Client, topic: &str, partition: i32) -> Option<i32> {
    let known = client.metadata().topic(topic)?;
    let known = known.partitions.get(usize::try_from(partition).ok()?)?;
    Some(known.leader)
}

/// The topics that are produced to or consumed, with such partitions.
fn topics(statistics: &Statistics, client: &Client) -> Object {
    type Of<'a> = (
        Option<&'a PartitionStatistics>,
        Option<&'a ConsumedPartitionStatistics>,
    );
    let mut by_topic: BTreeMap<&str, BTreeMap<i32, Of<'_>>> = BTreeMap::new();
    for produced in &statistics.partitions {
        let topic = by_topic.entry(&produced.topic).or_default();
        topic.entry(produced.partition).or_default().0 = Some(produced);
    }
    for consumed in &statistics.consumed {
        let topic = by_topic.entry(&consumed.topic).or_default();
        topic.entry(consumed.partition).or_default().1 = Some(consumed);
    }
    let mut all = Object::new();
    for (topic, of_topic) in by_topic {
        let mut partitions = Object::new();
        for (number, (produced, consumed)) in of_topic {
            let leader = leader_of(client, topic, number);
            let mut one = Object::new();
            one.plain("partition", number)
                .plain("broker", leader.unwrap_or(-1))
                .plain("leader", leader.unwrap_or(-1))
                .plain("desired", consumed.is_some())
                .plain("unknown", leader.is_none());
            if let Some(produced) = produced {
                let counters = &produced.counters;
                one.plain("msgq_cnt", produced.queued)
                    .plain("msgs_inflight", produced.in_flight)
                    .plain("txmsgs", counters.tx_messages)
                    .plain("txbytes", counters.tx_bytes)
                    .plain("msgs", counters.tx_messages);
            }
            if let Some(consumed) = consumed {
                consumer_side(&mut one, consumed);
            }
            partitions.object(&number.to_string(), one);
        }
        let mut one = Object::new();
        one.text("topic", topic).object("partitions", partitions);
        all.object(topic, one);
    }
    all
}

fn consumer_side(one: &mut Object, of: &ConsumedPartitionStatistics) {
    // What is unknown makes the lag unknown, which librdkafka tells as -1.
    let lag = |from: i64| match (of.high, from) {
        (high, from) if high >= 0 && from >= 0 => (high - from).max(0),
        _ => -1,
    };
    one.plain("fetchq_cnt", of.queued)
        .plain("fetchq_size", of.queued_bytes)
        .text("fetch_state", of.fetch_state)
        .plain("next_offset", of.next_offset)
        .plain("app_offset", of.position)
        .plain("stored_offset", of.stored)
        .plain("stored_leader_epoch", of.stored_epoch)
        // Both spellings, as librdkafka has them.
        .plain("commited_offset", of.committed)
        .plain("committed_offset", of.committed)
        .plain("eof_offset", of.eof.unwrap_or(offset::INVALID))
        .plain("lo_offset", of.low)
        .plain("hi_offset", of.high)
        .plain("consumer_lag", lag(of.committed))
        .plain("consumer_lag_stored", lag(of.stored))
        .plain("rxmsgs", of.rx_messages)
        .plain("rxbytes", of.rx_bytes);
}

fn group(statistics: &Statistics, client: &Client, join_state: &str) -> Object {
    let coordinator = statistics.brokers.iter().find(|b| b.coordinator);
    let state = match coordinator {
        Some(connection) if connection.up => "up",
        Some(_) => "wait-broker-transport",
        None => "wait-coord",
    };
    let mut group = Object::new();
    group
        .text("state", state)
        .text("join_state", join_state)
        .plain("generation", client.generation())
        .plain("assignment_size", statistics.consumed.len());
    group
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if (c as u32) < 0x20 => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn strings_are_escaped() {
        assert_eq!(super::quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
