//! The records of the metadata log: an unsigned varint for the version of this frame, one for the record's number, one for
//! its version, and the body.

use bytes::Bytes;
use ottla_protocol::{
    DecodeError, Decoder, EncodeError, Encoder, Message,
    messages::{
        ClientQuotaRecord, ConfigRecord, FeatureLevelRecord, PartitionChangeRecord,
        PartitionRecord, ProducerIdsRecord, RemoveTopicRecord, TopicRecord,
    },
};

/// The only version of the frame that there is.
const FRAME_VERSION: u32 = 1;

/// Kafka's numbers of the records that mean something here.
mod number {
    pub const REGISTER_BROKER: u32 = 0;
    pub const UNREGISTER_BROKER: u32 = 1;
    pub const TOPIC: u32 = 2;
    pub const PARTITION: u32 = 3;
    pub const CONFIG: u32 = 4;
    pub const PARTITION_CHANGE: u32 = 5;
    pub const FENCE_BROKER: u32 = 7;
    pub const UNFENCE_BROKER: u32 = 8;
    pub const REMOVE_TOPIC: u32 = 9;
    pub const FEATURE_LEVEL: u32 = 12;
    pub const CLIENT_QUOTA: u32 = 14;
    pub const PRODUCER_IDS: u32 = 15;
    pub const BROKER_REGISTRATION_CHANGE: u32 = 17;
    pub const NO_OP: u32 = 20;
    pub const ZK_MIGRATION_STATE: u32 = 21;
    pub const BEGIN_TRANSACTION: u32 = 23;
    pub const END_TRANSACTION: u32 = 24;
    pub const ABORT_TRANSACTION: u32 = 25;
    pub const REGISTER_CONTROLLER: u32 = 27;
    pub const CLEAR_ELR: u32 = 28;
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MetadataRecord {
    Topic(TopicRecord),
    Partition(PartitionRecord),
    PartitionChange(PartitionChangeRecord),
    Config(ConfigRecord),
    ClientQuota(ClientQuotaRecord),
    RemoveTopic(RemoveTopicRecord),
    FeatureLevel(FeatureLevelRecord),
    ProducerIds(ProducerIdsRecord),
    /// What follows counts only if the transaction ends.
    BeginTransaction,
    EndTransaction,
    AbortTransaction,
    /// Who is up and who leads: of one run of the cluster, and worth nothing to another.
    OfOneRun,
    /// Users, access rights, tokens, and what comes with later versions: its bytes are all that is needed here.
    Other,
}

impl MetadataRecord {
    /// Reads a record's value.
    pub(super) fn parse(value: Bytes) -> Result<Self, DecodeError> {
        let mut d = Decoder::new(value);
        let frame = d.unsigned_varint()?;
        if frame != FRAME_VERSION {
            return Err(DecodeError::UnsupportedVersion {
                version: i16::try_from(frame).unwrap_or(i16::MAX),
            });
        }
        let number = d.unsigned_varint()?;
        let version = i16::try_from(d.unsigned_varint()?).unwrap_or(i16::MAX);
        let d = &mut d;
        Ok(match number {
            number::TOPIC => Self::Topic(TopicRecord::decode(version, d)?),
            number::PARTITION => Self::Partition(PartitionRecord::decode(version, d)?),
            number::PARTITION_CHANGE => {
                Self::PartitionChange(PartitionChangeRecord::decode(version, d)?)
            }
            number::CONFIG => Self::Config(ConfigRecord::decode(version, d)?),
            number::CLIENT_QUOTA => Self::ClientQuota(ClientQuotaRecord::decode(version, d)?),
            number::REMOVE_TOPIC => Self::RemoveTopic(RemoveTopicRecord::decode(version, d)?),
            number::FEATURE_LEVEL => Self::FeatureLevel(FeatureLevelRecord::decode(version, d)?),
            number::PRODUCER_IDS => Self::ProducerIds(ProducerIdsRecord::decode(version, d)?),
            number::BEGIN_TRANSACTION => Self::BeginTransaction,
            number::END_TRANSACTION => Self::EndTransaction,
            number::ABORT_TRANSACTION => Self::AbortTransaction,
            number::REGISTER_BROKER
            | number::UNREGISTER_BROKER
            | number::FENCE_BROKER
            | number::UNFENCE_BROKER
            | number::BROKER_REGISTRATION_CHANGE
            | number::NO_OP
            | number::ZK_MIGRATION_STATE
            | number::REGISTER_CONTROLLER
            | number::CLEAR_ELR => Self::OfOneRun,
            _ => Self::Other,
        })
    }
}

/// A record's value, in a version that every Kafka 4 reads.
pub(super) trait ToValue: Message {
    /// Kafka's number of it.
    const NUMBER: u32;
    /// The version that is written.
    const VERSION: i16;

    /// Frame and body.
    fn to_value(&self) -> Result<Bytes, EncodeError> {
        let mut e = Encoder::with_capacity(8 + self.size_hint());
        e.unsigned_varint(FRAME_VERSION);
        e.unsigned_varint(Self::NUMBER);
        e.unsigned_varint(Self::VERSION as u32);
        self.encode(Self::VERSION, &mut e)?;
        Ok(e.into_bytes())
    }
}

impl ToValue for TopicRecord {
    const NUMBER: u32 = number::TOPIC;
    const VERSION: i16 = 0;
}

impl ToValue for PartitionRecord {
    const NUMBER: u32 = number::PARTITION;
    /// With directories; version 2 is for `eligible.leader.replicas.version`.
    const VERSION: i16 = 1;
}

impl ToValue for ConfigRecord {
    const NUMBER: u32 = number::CONFIG;
    const VERSION: i16 = 0;
}

impl ToValue for ClientQuotaRecord {
    const NUMBER: u32 = number::CLIENT_QUOTA;
    const VERSION: i16 = 0;
}

impl ToValue for FeatureLevelRecord {
    const NUMBER: u32 = number::FEATURE_LEVEL;
    const VERSION: i16 = 0;
}

impl ToValue for ProducerIdsRecord {
    const NUMBER: u32 = number::PRODUCER_IDS;
    const VERSION: i16 = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_level_is_kafkas_byte_for_byte() {
        let record = FeatureLevelRecord {
            name: "group.version".into(),
            feature_level: 1,
        };
        let value = record.to_value().unwrap();
        assert_eq!(value[..], *b"\x01\x0c\x00\x0egroup.version\x00\x01\x00");
        assert_eq!(
            MetadataRecord::parse(value),
            Ok(MetadataRecord::FeatureLevel(record))
        );
    }

    #[test]
    fn what_is_unknown_is_kept_apart_from_what_is_damaged() {
        let parse = |bytes: &'static [u8]| MetadataRecord::parse(Bytes::from_static(bytes));
        assert_eq!(parse(b"\x01\x12\x00anything"), Ok(MetadataRecord::Other));
        assert_eq!(parse(b"\x01\x14\x00\x00"), Ok(MetadataRecord::OfOneRun));
        assert!(parse(b"\x02\x14\x00\x00").is_err(), "another frame");
        assert!(parse(b"\x01\x02\x01\x00").is_err(), "a newer topic record");
        assert!(parse(b"\x01\x02").is_err(), "cut short");
    }
}
