//! Keys, values, headers and callbacks as Python programs give them.

use ottla::Header;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple},
};

/// Bytes out of a Python object.
pub enum Payload<'a, 'py> {
    /// There are none.
    Null,
    /// Inside the object, which can't change.
    Borrowed(&'a [u8]),
    /// A copy, since the object might change.
    Copied(Bound<'py, PyBytes>),
}

impl Payload<'_, '_> {
    /// The bytes.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Null => None,
            Self::Borrowed(bytes) => Some(bytes),
            Self::Copied(bytes) => Some(bytes.as_bytes()),
        }
    }
}

/// Takes `bytes`, `str` (as UTF-8), anything with a buffer, or `None`.
#[inline]
pub fn payload<'a, 'py>(object: Option<&'a Bound<'py, PyAny>>) -> PyResult<Payload<'a, 'py>> {
    let Some(object) = object else {
        return Ok(Payload::Null);
    };
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Payload::Borrowed(bytes.as_bytes()));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Payload::Borrowed(text.to_str()?.as_bytes()));
    }
    if object.is_none() {
        return Ok(Payload::Null);
    }
    let Ok(view) = PyMemoryView::from(object) else {
        return Err(PyTypeError::new_err(format!(
            "a bytes-like object is required, not '{}'",
            object.get_type().name()?
        )));
    };
    let bytes = view.call_method0("tobytes")?;
    view.call_method0("release")?;
    Ok(Payload::Copied(bytes.cast_into::<PyBytes>()?))
}

/// One header, copied.
struct OwnedHeader {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// Headers, copied out of a dict or of a list of pairs.
#[derive(Default)]
pub struct OwnedHeaders(Vec<OwnedHeader>);

impl OwnedHeaders {
    /// Takes `{name: value}` or `[(name, value)]`, where a value is `None`, `str` or bytes-like.
    pub fn new(headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(headers) = headers.filter(|headers| !headers.is_none()) else {
            return Ok(Self::default());
        };
        let mut taken = Vec::new();
        if let Ok(headers) = headers.cast::<PyDict>() {
            for (key, value) in headers.iter() {
                taken.push(header(&key, &value)?);
            }
        } else if let Ok(headers) = headers.cast::<PyList>() {
            for pair in headers.iter() {
                match pair.cast::<PyTuple>() {
                    Ok(pair) if pair.len() == 2 => {
                        taken.push(header(&pair.get_item(0)?, &pair.get_item(1)?)?);
                    }
                    _ => {
                        return Err(PyTypeError::new_err(
                            "Headers are expected to be a list of (key, value) tuples",
                        ));
                    }
                }
            }
        } else {
            return Err(PyTypeError::new_err(format!(
                "expected headers to be dict or list of (key, value) tuples, not {}",
                headers.get_type().name()?
            )));
        }
        Ok(Self(taken))
    }

    /// As the façade takes them.
    pub fn borrowed(&self) -> Vec<Header<'_>> {
        self.0
            .iter()
            .map(|header| Header {
                key: &header.key,
                value: header.value.as_deref(),
            })
            .collect()
    }
}

fn header(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<OwnedHeader> {
    let Ok(key) = key.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!(
            "expected header key to be a unicode string, not {}",
            key.get_type().name()?
        )));
    };
    let value = payload(Some(value)).map_err(|_| {
        let kind = value.get_type().name();
        PyTypeError::new_err(format!(
            "expected header value to be None, binary, or unicode string, not {}",
            kind.map(|name| name.to_string()).unwrap_or_default()
        ))
    })?;
    Ok(OwnedHeader {
        key: key.to_str()?.as_bytes().to_vec(),
        value: value.bytes().map(<[u8]>::to_vec),
    })
}

/// A callable, or nothing.
pub fn callable(name: &str, object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
    match object {
        None => Ok(None),
        Some(object) if object.is_none() => Ok(None),
        Some(object) if object.is_callable() => Ok(Some(object.clone().unbind())),
        Some(_) => Err(PyTypeError::new_err(format!("{name} expects a callable"))),
    }
}

/// `callback` and `on_delivery` are two names of one argument.
pub fn delivery_callback<'a, 'py>(
    callback: Option<&'a Bound<'py, PyAny>>,
    on_delivery: Option<&'a Bound<'py, PyAny>>,
) -> PyResult<Option<&'a Bound<'py, PyAny>>> {
    let callback = callback.filter(|callback| !callback.is_none());
    let on_delivery = on_delivery.filter(|callback| !callback.is_none());
    let chosen = match (callback, on_delivery) {
        (Some(_), Some(_)) => {
            return Err(PyValueError::new_err(
                "callback and on_delivery are two names of the same argument",
            ));
        }
        (one, other) => one.or(other),
    };
    match chosen {
        Some(callback) if !callback.is_callable() => {
            Err(PyTypeError::new_err("on_delivery expects a callable"))
        }
        chosen => Ok(chosen),
    }
}
