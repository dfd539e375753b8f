//! The headers in front of every body.

use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, Str};

/// What stands in front of a request's body.
///
/// Header version 2 (version 1 and tagged fields) belongs to flexible bodies, version 1 to all others. The client id has
/// a plain length in both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestHeader {
    /// The API's number; not necessarily one that this crate knows.
    pub request_api_key: i16,
    /// Version of the body.
    pub request_api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// The API, if this crate knows it.
    pub fn api_key(&self) -> Option<ApiKey> {
        ApiKey::from_i16(self.request_api_key)
    }

    /// Writes the header in the version that belongs to its body.
    pub fn encode(&self, e: &mut Encoder) -> Result<(), EncodeError> {
        e.i16(self.request_api_key);
        e.i16(self.request_api_version);
        e.i32(self.correlation_id);
        match &self.client_id {
            Some(client_id) => e.string(client_id, false)?,
            None => e.null_string(false),
        }
        if self
            .api_key()
            .is_some_and(|k| k.is_flexible(self.request_api_version))
        {
            e.unsigned_varint(0);
        }
        Ok(())
    }

    /// Reads the header and leaves the decoder at the body. An unknown API is read as if it were not flexible.
    pub fn decode(d: &mut Decoder) -> Result<Self, DecodeError> {
        let header = Self {
            request_api_key: d.i16()?,
            request_api_version: d.i16()?,
            correlation_id: d.i32()?,
            client_id: d.nullable_string(false)?,
        };
        if header
            .api_key()
            .is_some_and(|k| k.is_flexible(header.request_api_version))
        {
            d.skip_tagged_fields()?;
        }
        Ok(header)
    }
}

/// What stands in front of a response's body.
///
/// Header version 1 (version 0 and tagged fields) belongs to flexible bodies, version 0 to all others and to every
/// ApiVersions response: its reader does not know yet what the broker speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The request's.
    pub correlation_id: i32,
}

impl ResponseHeader {
    fn has_tagged_fields(api_key: ApiKey, version: i16) -> bool {
        api_key != ApiKey::ApiVersions && api_key.is_flexible(version)
    }

    /// Writes the header that belongs to a body of `version`.
    pub fn encode(&self, api_key: ApiKey, version: i16, e: &mut Encoder) {
        e.i32(self.correlation_id);
        if Self::has_tagged_fields(api_key, version) {
            e.unsigned_varint(0);
        }
    }

    /// Reads the header that belongs to a body of `version` and leaves the decoder at the body.
    pub fn decode(api_key: ApiKey, version: i16, d: &mut Decoder) -> Result<Self, DecodeError> {
        let correlation_id = d.i32()?;
        if Self::has_tagged_fields(api_key, version) {
            d.skip_tagged_fields()?;
        }
        Ok(Self { correlation_id })
    }
}

impl ApiKey {
    /// Whether bodies of `version` have compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from().is_some_and(|from| version >= from)
    }
}
