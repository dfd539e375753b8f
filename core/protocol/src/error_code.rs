//! Kafka's error codes: numbers, names, what they mean, and whether trying again may help.

use core::fmt;

/// An error code as it stands in a message; any `i16` can arrive, so unknown ones are values too.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i16);

macro_rules! error_codes {
    ($($name:ident $code:literal $retriable:ident $message:literal)*) => {
        impl ErrorCode {
            $(#[doc = $message] pub const $name: Self = Self($code);)*

            /// Every code of the table, ascending.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Kafka's name; `UNKNOWN` for a code that is not in the table.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }

            /// One sentence for people.
            pub const fn message(self) -> &'static str {
                match self.0 {
                    $($code => $message,)*
                    _ => "An error code that this version does not know.",
                }
            }

            /// Whether Kafka's clients treat the error as one that may go away by itself.
            pub const fn is_retriable(self) -> bool {
                match self.0 {
                    $($code => error_codes!(@ $retriable),)*
                    _ => false,
                }
            }
        }
    };
    (@ retriable) => { true };
    (@ final) => { false };
}

error_codes! {
    UNKNOWN_SERVER_ERROR -1 final "The broker failed in a way that it did not expect."
    NONE 0 final "Success."
    OFFSET_OUT_OF_RANGE 1 final "The offset lies outside of the partition's log."
    CORRUPT_MESSAGE 2 retriable "The record batch is damaged: wrong checksum, wrong size, or a null key in a compacted topic."
    UNKNOWN_TOPIC_OR_PARTITION 3 retriable "The broker has no such topic or partition."
    INVALID_FETCH_SIZE 4 final "The fetch size is not valid."
    LEADER_NOT_AVAILABLE 5 retriable "The partition has no leader at the moment; an election may be under way."
    NOT_LEADER_OR_FOLLOWER 6 retriable "The broker is not the partition's leader, or holds no replica of it."
    REQUEST_TIMED_OUT 7 retriable "The request was not completed in its time."
    BROKER_NOT_AVAILABLE 8 final "The broker is not available."
    REPLICA_NOT_AVAILABLE 9 retriable "The replica is not available for this partition."
    MESSAGE_TOO_LARGE 10 final "The record batch is larger than the broker accepts."
    STALE_CONTROLLER_EPOCH 11 final "The request comes from a controller that has been replaced."
    OFFSET_METADATA_TOO_LARGE 12 final "The metadata of the committed offset is too long."
    NETWORK_EXCEPTION 13 retriable "The connection was lost before the answer came."
    COORDINATOR_LOAD_IN_PROGRESS 14 retriable "The coordinator is still reading its state."
    COORDINATOR_NOT_AVAILABLE 15 retriable "There is no coordinator at the moment."
    NOT_COORDINATOR 16 retriable "The broker is not the coordinator of this group or transaction."
    INVALID_TOPIC_EXCEPTION 17 final "The topic's name is not valid, or the operation is not allowed on it."
    RECORD_LIST_TOO_LARGE 18 final "The record batch is larger than a segment may be."
    NOT_ENOUGH_REPLICAS 19 retriable "Fewer replicas are in sync than the topic requires; nothing was written."
    NOT_ENOUGH_REPLICAS_AFTER_APPEND 20 retriable "The records were written, but to fewer in-sync replicas than required."
    INVALID_REQUIRED_ACKS 21 final "acks must be 0, 1 or -1 (all)."
    ILLEGAL_GENERATION 22 final "The generation is not the group's current one."
    INCONSISTENT_GROUP_PROTOCOL 23 final "The member's protocol type or protocols have nothing in common with the group's."
    INVALID_GROUP_ID 24 final "The group id is not valid."
    UNKNOWN_MEMBER_ID 25 final "The coordinator does not know this member."
    INVALID_SESSION_TIMEOUT 26 final "The session timeout is outside of the range that the broker allows."
    REBALANCE_IN_PROGRESS 27 final "The group is rebalancing; the member has to join again."
    INVALID_COMMIT_OFFSET_SIZE 28 final "The committed offset's data has an invalid size."
    TOPIC_AUTHORIZATION_FAILED 29 final "Not authorized for the topic."
    GROUP_AUTHORIZATION_FAILED 30 final "Not authorized for the group."
    CLUSTER_AUTHORIZATION_FAILED 31 final "Not authorized for the cluster."
    INVALID_TIMESTAMP 32 final "The record's timestamp is outside of the range that the topic allows."
    UNSUPPORTED_SASL_MECHANISM 33 final "The broker does not offer this SASL mechanism."
    ILLEGAL_SASL_STATE 34 final "The request does not fit the state of the SASL exchange."
    UNSUPPORTED_VERSION 35 final "The broker does not support this version of the API."
    TOPIC_ALREADY_EXISTS 36 final "A topic of this name exists already."
    INVALID_PARTITIONS 37 final "The number of partitions is not valid."
    INVALID_REPLICATION_FACTOR 38 final "The replication factor is below 1 or above the number of brokers."
    INVALID_REPLICA_ASSIGNMENT 39 final "The replica assignment is not valid."
    INVALID_CONFIG 40 final "A configuration property or its value is not valid."
    NOT_CONTROLLER 41 retriable "The broker is not the cluster's controller."
    INVALID_REQUEST 42 final "The request is malformed or contradicts itself."
    UNSUPPORTED_FOR_MESSAGE_FORMAT 43 final "The topic's message format cannot do this."
    POLICY_VIOLATION 44 final "The request breaks a policy of the broker."
    OUT_OF_ORDER_SEQUENCE_NUMBER 45 final "The batch's sequence number does not follow the producer's last one."
    DUPLICATE_SEQUENCE_NUMBER 46 final "The batch's sequence number was seen before."
    INVALID_PRODUCER_EPOCH 47 final "The producer's epoch is old: a newer instance has taken over."
    INVALID_TXN_STATE 48 final "The transaction's state does not allow this."
    INVALID_PRODUCER_ID_MAPPING 49 final "The producer id does not belong to this transactional id."
    INVALID_TRANSACTION_TIMEOUT 50 final "The transaction timeout is zero, negative or above transaction.max.timeout.ms."
    CONCURRENT_TRANSACTIONS 51 final "Another operation on the same transaction is under way."
    TRANSACTION_COORDINATOR_FENCED 52 final "The marker comes from a transaction coordinator that has been replaced."
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED 53 final "Not authorized for the transactional id."
    SECURITY_DISABLED 54 final "The broker has no authorizer."
    OPERATION_NOT_ATTEMPTED 55 final "Not tried, because another part of the same request failed."
    KAFKA_STORAGE_ERROR 56 retriable "The broker could not read or write its log on disk."
    LOG_DIR_NOT_FOUND 57 final "The broker has no such log directory."
    SASL_AUTHENTICATION_FAILED 58 final "SASL authentication failed."
    UNKNOWN_PRODUCER_ID 59 final "The broker no longer knows this producer id on the partition."
    REASSIGNMENT_IN_PROGRESS 60 final "The partition is being reassigned."
    DELEGATION_TOKEN_AUTH_DISABLED 61 final "Delegation tokens are switched off."
    DELEGATION_TOKEN_NOT_FOUND 62 final "There is no such delegation token."
    DELEGATION_TOKEN_OWNER_MISMATCH 63 final "Only the token's owner or renewers may do this."
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED 64 final "Delegation tokens are not managed over a connection that is unauthenticated or authenticated by a token."
    DELEGATION_TOKEN_AUTHORIZATION_FAILED 65 final "Not authorized for the delegation token."
    DELEGATION_TOKEN_EXPIRED 66 final "The delegation token has expired."
    INVALID_PRINCIPAL_TYPE 67 final "This type of principal is not supported."
    NON_EMPTY_GROUP 68 final "The group still has members."
    GROUP_ID_NOT_FOUND 69 final "There is no such group."
    FETCH_SESSION_ID_NOT_FOUND 70 retriable "The broker does not know this fetch session."
    INVALID_FETCH_SESSION_EPOCH 71 retriable "The fetch session's epoch is not the expected one."
    LISTENER_NOT_FOUND 72 retriable "The leader has no listener like the one that the request came in on."
    TOPIC_DELETION_DISABLED 73 final "Deleting topics is switched off."
    FENCED_LEADER_EPOCH 74 retriable "The leader epoch in the request is older than the broker's."
    UNKNOWN_LEADER_EPOCH 75 retriable "The leader epoch in the request is newer than the broker's."
    UNSUPPORTED_COMPRESSION_TYPE 76 final "The client cannot read the partition's compression type."
    STALE_BROKER_EPOCH 77 final "The broker has registered anew since."
    OFFSET_NOT_AVAILABLE 78 retriable "A new leader does not know the high watermark yet."
    MEMBER_ID_REQUIRED 79 final "The member has to join again with the member id that it was given."
    PREFERRED_LEADER_NOT_AVAILABLE 80 retriable "The preferred leader is not available."
    GROUP_MAX_SIZE_REACHED 81 final "The group has as many members as it may have."
    FENCED_INSTANCE_ID 82 final "Another member has taken over this group.instance.id."
    ELIGIBLE_LEADERS_NOT_AVAILABLE 83 retriable "No replica that may become leader is available."
    ELECTION_NOT_NEEDED 84 retriable "The partition has the right leader already."
    NO_REASSIGNMENT_IN_PROGRESS 85 final "The partition is not being reassigned."
    GROUP_SUBSCRIBED_TO_TOPIC 86 final "The group is subscribed to the topic, so its offsets stay."
    INVALID_RECORD 87 final "A record of the batch was refused."
    UNSTABLE_OFFSET_COMMIT 88 retriable "Offsets of an unfinished transaction are pending."
    THROTTLING_QUOTA_EXCEEDED 89 retriable "The quota is used up for now."
    PRODUCER_FENCED 90 final "A newer producer with the same transactional id has taken over."
    RESOURCE_NOT_FOUND 91 final "The request names something that does not exist."
    DUPLICATE_RESOURCE 92 final "The request names the same thing twice."
    UNACCEPTABLE_CREDENTIAL 93 final "The credential does not meet the requirements."
    INCONSISTENT_VOTER_SET 94 final "Sender or receiver is not one of the expected voters."
    INVALID_UPDATE_VERSION 95 final "The version to update to is not valid."
    FEATURE_UPDATE_FAILED 96 final "The finalized features could not be updated."
    PRINCIPAL_DESERIALIZATION_FAILURE 97 final "The forwarded request's principal could not be read."
    SNAPSHOT_NOT_FOUND 98 final "There is no such snapshot."
    POSITION_OUT_OF_RANGE 99 final "The position lies outside of the snapshot."
    UNKNOWN_TOPIC_ID 100 retriable "The broker has no topic with this id."
    DUPLICATE_BROKER_REGISTRATION 101 final "A broker with this id is registered already."
    BROKER_ID_NOT_REGISTERED 102 final "No broker with this id is registered."
    INCONSISTENT_TOPIC_ID 103 retriable "The log's topic id is another one than the request's."
    INCONSISTENT_CLUSTER_ID 104 final "The request is meant for another cluster."
    TRANSACTIONAL_ID_NOT_FOUND 105 final "There is no such transactional id."
    FETCH_SESSION_TOPIC_ID_ERROR 106 retriable "The fetch session mixes topic names and topic ids."
    INELIGIBLE_REPLICA 107 final "The new in-sync set has a replica that may not be in it."
    NEW_LEADER_ELECTED 108 final "The change was made, and the leader is another one now."
    OFFSET_MOVED_TO_TIERED_STORAGE 109 final "The offset now lies in tiered storage."
    FENCED_MEMBER_EPOCH 110 final "The member was fenced: it has to give up its partitions and join again."
    UNRELEASED_INSTANCE_ID 111 final "Another member still holds this instance id."
    UNSUPPORTED_ASSIGNOR 112 final "The group does not support this assignor."
    STALE_MEMBER_EPOCH 113 final "The member's epoch is old; the next heartbeat tells the new one."
    MISMATCHED_ENDPOINT_TYPE 114 final "The request went to the wrong kind of endpoint."
    UNSUPPORTED_ENDPOINT_TYPE 115 final "This kind of endpoint is not supported."
    UNKNOWN_CONTROLLER_ID 116 final "There is no controller with this id."
    UNKNOWN_SUBSCRIPTION_ID 117 final "The telemetry subscription is unknown or old."
    TELEMETRY_TOO_LARGE 118 final "More telemetry than the broker accepts at once."
    INVALID_REGISTRATION 119 final "The controller refuses the broker's registration."
    TRANSACTION_ABORTABLE 120 final "The transaction has to be aborted; the transactional id stays usable."
    INVALID_RECORD_STATE 121 final "The record cannot be acknowledged in its state."
    SHARE_SESSION_NOT_FOUND 122 retriable "The broker does not know this share session."
    INVALID_SHARE_SESSION_EPOCH 123 retriable "The share session's epoch is not the expected one."
    FENCED_STATE_EPOCH 124 final "The share group's state epoch does not match."
    INVALID_VOTER_KEY 125 final "The voter key is not the receiving replica's."
    DUPLICATE_VOTER 126 final "The voter is one already."
    VOTER_NOT_FOUND 127 final "There is no such voter."
    INVALID_REGULAR_EXPRESSION 128 final "The regular expression is not valid."
    REBOOTSTRAP_REQUIRED 129 final "The client's metadata is too old; it has to start again from bootstrap.servers."
    STREAMS_INVALID_TOPOLOGY 130 final "The topology is not valid."
    STREAMS_INVALID_TOPOLOGY_EPOCH 131 final "The topology's epoch is not valid."
    STREAMS_TOPOLOGY_FENCED 132 final "The topology's epoch is old."
    SHARE_SESSION_LIMIT_REACHED 133 retriable "The broker has as many share sessions as it may have."
}

impl ErrorCode {
    /// Whether this is [`ErrorCode::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether this is anything else than [`ErrorCode::NONE`].
    pub const fn is_error(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::error::ResponseError;
    use std::string::{String, ToString};

    #[test]
    fn numbers_names_and_retriability_are_kafkas() {
        for &code in ErrorCode::ALL {
            let Some(theirs) = ResponseError::try_from_code(code.0) else {
                assert!(code.is_none());
                continue;
            };
            let camel: String = code.name().split('_').map(capitalized).collect();
            assert_eq!(camel, theirs.to_string());
            assert_eq!(code.is_retriable(), theirs.is_retriable(), "{code:?}");
            assert!(code.is_error());
        }
        let known = |code| {
            !matches!(
                ResponseError::try_from_code(code),
                Some(ResponseError::Unknown(_))
            )
        };
        assert_eq!(
            (-1..=i16::MAX).filter(|&c| known(c)).count(),
            ErrorCode::ALL.len()
        );
    }

    fn capitalized(word: &str) -> String {
        word[..1].to_string() + &word[1..].to_lowercase()
    }

    #[test]
    fn unknown_codes_are_values() {
        let code = ErrorCode(9999);
        assert_eq!(code.name(), "UNKNOWN");
        assert!(code.is_error() && !code.is_retriable());
    }
}
