//! What the consumer reads out of errors.

use crate::error::{ErrCode, KafkaError};
use alloc::format;
use ottla_protocol::Response;

/// A response of another kind than the request's.
pub(super) fn unexpected(response: &Response) -> KafkaError {
    let text = format!("the broker answered with {:?}", response.api_key());
    KafkaError::new(ErrCode::BAD_MSG, text)
}

/// Whether the group's coordinator has to be looked for again.
pub(super) fn coordinator_lost(error: &KafkaError) -> bool {
    matches!(
        error.code,
        ErrCode::NOT_COORDINATOR | ErrCode::COORDINATOR_NOT_AVAILABLE | ErrCode::TRANSPORT
    )
}

/// The meaning of an error code.
pub(super) fn describe(code: ErrCode) -> &'static str {
    code.description().unwrap_or("unknown error")
}
