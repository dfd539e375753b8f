//! What goes to JavaScript: a small tree that a worker thread builds and the event loop's thread turns into JavaScript's values.

use napi::bindgen_prelude::*;
use ottla::{KafkaError, TopicPartition};

/// A value on its way to JavaScript.
pub enum Value {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(String),
    /// A `Buffer`, whose memory is handed over.
    Bytes(Vec<u8>),
    /// An `Int32Array`, whose memory is handed over.
    Int32s(Vec<i32>),
    /// A `Float64Array`, whose memory is handed over.
    Float64s(Vec<f64>),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Map(Vec<(&'static str, Value)>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(f64::from(number))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as f64)
    }
}

/// Offsets and timestamps are decimal strings in KafkaJS's shapes.
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Text(number.to_string())
    }
}

impl From<&KafkaError> for Value {
    fn from(error: &KafkaError) -> Self {
        let code = error.code.0;
        let name = match i16::try_from(code) {
            // The broker's codes have Kafka's names, the client's own have librdkafka's.
            Ok(broker) if broker >= -1 => ottla::ErrorCode(broker).name().into(),
            _ => Self::Text(error.code.to_string()),
        };
        Self::Map(vec![
            ("code", code.into()),
            ("name", name),
            ("message", Self::Text(error.message.to_string())),
            ("retriable", Self::Bool(error.retriable)),
            ("fatal", Self::Bool(error.fatal)),
        ])
    }
}

impl From<&TopicPartition> for Value {
    fn from(partition: &TopicPartition) -> Self {
        let metadata = partition.metadata.as_ref();
        Self::Map(vec![
            ("topic", (&*partition.topic).into()),
            ("partition", partition.partition.into()),
            ("offset", partition.offset.into()),
            ("metadata", metadata.map_or(Self::Null, |m| (&**m).into())),
            ("errorCode", partition.error.0.into()),
        ])
    }
}

impl Value {
    /// An array of things that become values.
    pub fn list<T: Into<Value>>(things: impl IntoIterator<Item = T>) -> Self {
        Self::List(things.into_iter().map(Into::into).collect())
    }

    /// A result: its value, or `{error}`.
    pub fn or_error(result: std::result::Result<Value, KafkaError>) -> Self {
        result.unwrap_or_else(|error| Self::Map(vec![("error", (&error).into())]))
    }
}

impl ToNapiValue for Value {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> Result<sys::napi_value> {
        // SAFETY: `env` is the caller's, who runs on the environment's own thread; each arm passes it on unchanged.
        unsafe {
            match value {
                Self::Null => ToNapiValue::to_napi_value(env, Null),
                Self::Bool(value) => ToNapiValue::to_napi_value(env, value),
                Self::Number(value) => ToNapiValue::to_napi_value(env, value),
                Self::Text(value) => ToNapiValue::to_napi_value(env, value),
                Self::Bytes(value) => ToNapiValue::to_napi_value(env, Buffer::from(value)),
                Self::Int32s(value) => ToNapiValue::to_napi_value(env, Int32Array::new(value)),
                Self::Float64s(value) => ToNapiValue::to_napi_value(env, Float64Array::new(value)),
                Self::List(values) => ToNapiValue::to_napi_value(env, values),
                Self::Map(entries) => {
                    let mut object = Object::new(&Env::from_raw(env))?;
                    for (name, value) in entries {
                        object.set(name, value)?;
                    }
                    ToNapiValue::to_napi_value(env, object)
                }
            }
        }
    }
}
