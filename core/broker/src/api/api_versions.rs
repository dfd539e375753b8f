//! ApiVersions (18): what is served, in which versions.
//!
//! Serves versions 0 to 4. Departs from Kafka: keys that are not served here are not told, and of the features only `group.version`,
//! `share.version` and `transaction.version`, since the others describe a KRaft cluster.

use alloc::vec::Vec;

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::api_versions::{
        ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey,
        SupportedFeatureKey,
    },
};
use ottla_record::Now;

use super::{SERVED, advertised_versions, is_on};
use crate::{
    Broker, BrokerConfig,
    context::{Handled, RequestContext},
};

/// The features of KRaft clusters that are served: name and highest level, which is the one in force. Clients look at
/// them to see which protocols they may use.
const FEATURES: &[(&str, i16)] = &[
    // KIP-848
    ("group.version", 1),
    // KIP-932
    ("share.version", 1),
    // KIP-890
    ("transaction.version", 2),
];

/// Clients of older versions can't read that the lowest level of a feature is 0 (KAFKA-17011), so they are not told.
const FEATURES_FROM_ZERO: i16 = 4;

/// From this version on the client says what software it is.
const WITH_SOFTWARE: i16 = 3;

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: ApiVersionsRequest,
) -> Handled {
    let named_well = is_software_word(&request.client_software_name)
        && is_software_word(&request.client_software_version);
    let tells_software = context.api_version >= WITH_SOFTWARE;
    Handled::Respond(if tells_software && !named_well {
        answer(ErrorCode::INVALID_REQUEST, context.api_version, Vec::new())
    } else {
        if tells_software {
            let software = (
                request.client_software_name,
                request.client_software_version,
            );
            broker.note_software(context.reply.conn, software);
        }
        answer(ErrorCode::NONE, context.api_version, served(&broker.config))
    })
}

/// The answer, at version 0, to an `ApiVersions` of a version that isn't served: the client then asks again.
pub(crate) fn unsupported_version(config: &BrokerConfig) -> Response {
    answer(ErrorCode::UNSUPPORTED_VERSION, 0, served(config))
}

fn answer(error_code: ErrorCode, version: i16, api_keys: Vec<ApiVersion>) -> Response {
    if error_code != ErrorCode::NONE {
        return Response::ApiVersions(ApiVersionsResponse {
            error_code,
            api_keys,
            ..Default::default()
        });
    }
    Response::ApiVersions(ApiVersionsResponse {
        error_code,
        api_keys,
        supported_features: FEATURES
            .iter()
            .filter(|_| version >= FEATURES_FROM_ZERO)
            .map(|(name, level)| SupportedFeatureKey {
                name: Str::from_static(name),
                min_version: 0,
                max_version: *level,
            })
            .collect(),
        finalized_features_epoch: 0,
        finalized_features: FEATURES
            .iter()
            .map(|(name, level)| FinalizedFeatureKey {
                name: Str::from_static(name),
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        ..Default::default()
    })
}

fn served(config: &BrokerConfig) -> Vec<ApiVersion> {
    SERVED
        .iter()
        .filter(|key| is_on(**key, config))
        .map(|key| {
            let versions = advertised_versions(*key);
            ApiVersion {
                api_key: *key as i16,
                min_version: *versions.start(),
                max_version: *versions.end(),
            }
        })
        .collect()
}

/// ASCII alphanumerics, with dots and dashes inside (KIP-511).
fn is_software_word(word: &str) -> bool {
    let bytes = word.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || *b == b'.' || *b == b'-';
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().all(inner)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability, Output, RequestEnvelope,
        testing::{CONN, Harness},
    };
    use ottla_protocol::{Request, messages::metadata::MetadataRequest};

    fn request(name: &str) -> Request {
        Request::ApiVersions(ApiVersionsRequest {
            client_software_name: name.into(),
            client_software_version: "1.0".into(),
        })
    }

    #[test]
    fn what_is_served() {
        let mut h = Harness::new(Durability::Os);
        let Response::ApiVersions(answer) = h.ask(3, request("test")) else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let produce = answer.api_keys.iter().find(|k| k.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
        assert!(answer.api_keys.is_sorted_by_key(|k| k.api_key));
        let feature = |f: &SupportedFeatureKey| (f.name.clone(), f.min_version, f.max_version);
        assert!(answer.supported_features.is_empty());
        let Response::ApiVersions(newest) = h.ask(4, request("test")) else {
            panic!()
        };
        let share = newest.supported_features.iter().map(feature);
        assert!(
            share
                .into_iter()
                .any(|f| f == ("share.version".into(), 0, 1))
        );
        let level = |f: &FinalizedFeatureKey| f.name == "share.version" && f.max_version_level == 1;
        assert!(answer.finalized_features.iter().any(level));
        for bad in ["", "-a", "a b"] {
            let Response::ApiVersions(answer) = h.ask(3, request(bad)) else {
                panic!()
            };
            assert_eq!(answer.error_code, ErrorCode::INVALID_REQUEST);
        }
        let Response::ApiVersions(old) = h.ask(0, request("")) else {
            panic!()
        };
        assert_eq!(old.error_code, ErrorCode::NONE);
    }

    #[test]
    fn the_transaction_version_is_told() {
        let mut h = Harness::new(Durability::Os);
        for version in 3..=4 {
            let Response::ApiVersions(answer) = h.ask(version, request("test")) else {
                panic!()
            };
            let is_it = |name: &Str| *name == "transaction.version";
            let mut supported = answer.supported_features.iter();
            let supported = supported.find(|f| is_it(&f.name));
            let mut finalized = answer.finalized_features.iter();
            let finalized = finalized.find(|f| is_it(&f.name)).unwrap();
            let levels = supported.map(|f| (f.min_version, f.max_version));
            assert_eq!(levels, (version >= 4).then_some((0, 2)));
            assert_eq!(finalized.max_version_level, 2);
            assert_eq!(answer.finalized_features_epoch, 0);
        }
    }

    #[test]
    fn versions_that_are_not_served() {
        let mut h = Harness::new(Durability::Os);
        let envelope = |api_version, request| RequestEnvelope {
            correlation_id: 9,
            api_version,
            client_id: None,
            request,
        };
        h.broker
            .handle_request(h.now, CONN, envelope(99, request("test")));
        let Some(Output::Respond {
            api_version,
            response: Response::ApiVersions(answer),
            ..
        }) = h.broker.poll_output()
        else {
            panic!()
        };
        assert_eq!(
            (api_version, answer.error_code),
            (0, ErrorCode::UNSUPPORTED_VERSION)
        );
        assert!(!answer.api_keys.is_empty());

        h.broker.handle_request(
            h.now,
            CONN,
            envelope(99, Request::Metadata(MetadataRequest::default())),
        );
        assert!(matches!(
            h.broker.poll_output(),
            Some(Output::Disconnect(CONN))
        ));
        h.broker.handle_request(
            h.now,
            CONN,
            envelope(9, Request::Metadata(MetadataRequest::default())),
        );
        assert!(h.broker.poll_output().is_none(), "the connection is gone");
    }
}
