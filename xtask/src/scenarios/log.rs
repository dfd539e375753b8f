//! What has to be in the logs after a scenario's write part, and what was delivered where.

use super::list::{Record, Scenario};
use serde_json::Value;
use std::collections::BTreeMap;

/// Each partition's records; the index is the offset.
#[derive(Default, Debug)]
pub struct Log(BTreeMap<(String, i32), Vec<Record>>);

impl Log {
    /// The logs as the list predicts them. Where it leaves the partition open, partition 0 stands for it.
    pub fn predicted(scenario: &Scenario) -> Self {
        let mut log = Self::default();
        for step in &scenario.write {
            if let Some(topic) = &step.produce {
                for record in step.produced() {
                    if record.error.is_none() {
                        log.append(
                            topic,
                            record.partition.or(record.lands).unwrap_or(0),
                            record,
                        );
                    }
                }
            }
        }
        log
    }

    pub fn append(&mut self, topic: &str, partition: i32, record: Record) {
        self.0
            .entry((topic.into(), partition))
            .or_default()
            .push(record);
    }

    pub fn of(&self, topic: &str, partition: i32) -> &[Record] {
        self.0
            .get(&(topic.into(), partition))
            .map_or(&[], Vec::as_slice)
    }

    /// Compares the deliveries of one `produce` step with the list, and appends what was delivered.
    pub fn deliver(
        &mut self,
        topic: &str,
        records: Vec<Record>,
        deliveries: &Value,
    ) -> Vec<String> {
        let mut differences = Vec::new();
        let told = deliveries["deliveries"].as_array();
        let Some(told) = told.filter(|told| told.len() == records.len()) else {
            return vec![format!(
                "expected {} deliveries, got {deliveries}",
                records.len()
            )];
        };
        for (i, (record, told)) in records.into_iter().zip(told).enumerate() {
            let code = told["error"]["code"].as_str();
            if code != record.error.as_deref() {
                let wanted = record.error.as_deref().unwrap_or("its delivery");
                differences.push(format!("record {i}: expected {wanted}, got {told}"));
            }
            if code.is_some() || record.error.is_some() {
                continue;
            }
            if told.is_null() {
                differences.push(format!("record {i}: neither delivered nor failed"));
                continue;
            }
            let wanted = record.partition.or(record.lands);
            let got = told["partition"].as_i64().map(|p| p as i32);
            if let (Some(wanted), Some(got)) = (wanted, got)
                && wanted != got
            {
                differences.push(format!(
                    "record {i}: expected in partition {wanted}, delivered to {got}"
                ));
            }
            let partition = got.or(wanted).unwrap_or(0);
            let next = self.of(topic, partition).len() as i64;
            if let Some(offset) = told["offset"].as_i64()
                && offset != next
            {
                differences.push(format!(
                    "record {i}: expected at offset {next} of {topic}/{partition}, delivered at {offset}"
                ));
            }
            self.append(topic, partition, record);
        }
        differences
    }
}
