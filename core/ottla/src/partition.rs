use crate::ErrCode;
use ottla_client::consumer::PartitionOffset;
use ottla_protocol::Str;

/// A partition with an offset and what may come with it: the argument and the result of most operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Str,
    /// The partition's number.
    pub partition: i32,
    /// An offset, or one of the logical ones of [`crate::offset`]. For `offsets_for_times` it is the timestamp.
    pub offset: i64,
    /// The leader epoch that goes with the offset; -1 if unknown.
    pub leader_epoch: i32,
    /// The application's text that is committed with the offset.
    pub metadata: Option<Str>,
    /// What became of this partition.
    pub error: ErrCode,
}

impl TopicPartition {
    /// A partition with an offset and nothing else.
    pub fn new(topic: impl Into<Str>, partition: i32, offset: i64) -> Self {
        Self {
            topic: topic.into(),
            partition,
            offset,
            leader_epoch: -1,
            metadata: None,
            error: ErrCode::NO_ERROR,
        }
    }
}

impl From<PartitionOffset> for TopicPartition {
    fn from(other: PartitionOffset) -> Self {
        let PartitionOffset {
            topic,
            partition,
            offset,
            leader_epoch,
            metadata,
            error,
        } = other;
        Self {
            topic,
            partition,
            offset,
            leader_epoch,
            metadata,
            error,
        }
    }
}

impl From<&TopicPartition> for PartitionOffset {
    fn from(other: &TopicPartition) -> Self {
        let TopicPartition {
            topic,
            partition,
            offset,
            leader_epoch,
            metadata,
            error,
        } = other.clone();
        Self {
            topic,
            partition,
            offset,
            leader_epoch,
            metadata,
            error,
        }
    }
}

/// Logical offsets, with librdkafka's numbers.
pub mod offset {
    /// The log's first offset.
    pub const BEGINNING: i64 = -2;
    /// The log's end: only what is appended later.
    pub const END: i64 = -1;
    /// The group's committed offset, else `auto.offset.reset`.
    pub const STORED: i64 = -1000;
    /// No offset; as a start it means [`STORED`].
    pub const INVALID: i64 = -1001;
    /// The offset `n` records before the end, but not before the beginning.
    pub const fn tail(n: i64) -> i64 {
        (-2000i64).saturating_sub(if n < 0 { 0 } else { n })
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn tails_count_down_from_minus_2000() {
            assert_eq!(
                [super::tail(0), super::tail(5), super::tail(-1)],
                [-2000, -2005, -2000]
            );
            assert_eq!(super::tail(i64::MAX), i64::MIN);
        }
    }
}

/// Who gave a record its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Nobody: there is none.
    NotAvailable = 0,
    /// The producer.
    CreateTime = 1,
    /// The broker, when it appended the record.
    LogAppendTime = 2,
}
