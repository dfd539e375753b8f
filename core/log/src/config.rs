//! A log's settings: the topic configurations of Kafka that concern one partition's files.

/// Settings of a log, with Kafka's names and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is closed before it would grow beyond this. 1 GiB.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment is closed when it is this old, by its records' timestamps. 7 days.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: by how much less than `segment.ms` at most, so that not all logs close theirs at once. 0.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: most bytes of an index file. 10 MiB.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`: log bytes between two index entries. 4096.
    pub index_interval_bytes: u64,
    /// `retention.ms`: segments whose newest record is older go; -1 keeps them. 7 days.
    pub retention_ms: i64,
    /// `retention.bytes`: the oldest segments go while the log is larger; -1 keeps them. -1.
    pub retention_bytes: i64,
    /// `message.timestamp.type`: whether records get the time of their append.
    pub log_append_time: bool,
    /// Whether `cleanup.policy` has `compact`: then offsets may be missing anywhere; otherwise a segment that doesn't begin
    /// where the one before it ends is damage if it was written after the last sync.
    pub compact: bool,
    /// `delete.retention.ms`: how long compaction keeps tombstones and markers after it has met them first. 1 day.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`: so long a segment is left alone, by its largest timestamp. 0.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: a record must not wait for compaction for longer. i64::MAX: it may wait for ever.
    pub max_compaction_lag_ms: i64,
    /// `file.delete.delay.ms`: when the files of deleted segments are removed. 1 minute.
    pub file_delete_delay_ms: i64,
    /// `producer.id.expiration.ms`: an idle producer's state is dropped after this. 1 day.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            log_append_time: false,
            compact: false,
            delete_retention_ms: 24 * 3_600_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            file_delete_delay_ms: 60_000,
            producer_id_expiration_ms: 24 * 3_600_000,
        }
    }
}

impl LogConfig {
    /// The age at which a segment is closed: with compaction a record must not be in it for longer than
    /// `max.compaction.lag.ms` (KIP-354).
    pub(crate) fn roll_ms(&self) -> i64 {
        if self.compact {
            self.segment_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_ms
        }
    }
}
