//! `KafkaError` and `KafkaException`.

use ottla::ErrCode;
use pyo3::{
    basic::CompareOp,
    exceptions::{PyException, PyTypeError},
    prelude::*,
    types::PyTuple,
};

pyo3::create_exception!(
    ottla,
    KafkaException,
    PyException,
    "What every failed operation raises: `args[0]` is the `KafkaError`."
);

/// An error or event: Kafka's and librdkafka's numbers, with a text.
///
/// It compares with other errors and with numbers by its code.
#[pyclass(frozen, name = "KafkaError", module = "ottla")]
#[derive(Clone)]
pub struct KafkaError(ottla::KafkaError);

impl From<ottla::KafkaError> for KafkaError {
    fn from(error: ottla::KafkaError) -> Self {
        Self(error)
    }
}

impl KafkaError {
    /// The error of a code, none for `NO_ERROR`.
    pub fn of_code(code: ErrCode) -> Option<Self> {
        (code != ErrCode::NO_ERROR).then(|| Self(code.into()))
    }

    /// The façade's error.
    pub fn inner(&self) -> &ottla::KafkaError {
        &self.0
    }

    fn label(&self) -> String {
        self.0.code.to_string()
    }
}

#[pymethods]
impl KafkaError {
    #[new]
    #[pyo3(signature = (error, reason=None, fatal=false, retriable=false, txn_requires_abort=false))]
    fn new(
        error: i32,
        reason: Option<String>,
        fatal: bool,
        retriable: bool,
        txn_requires_abort: bool,
    ) -> Self {
        let code = ErrCode(error);
        let mut error = match reason {
            Some(reason) => ottla::KafkaError::new(code, reason),
            None => code.into(),
        };
        error.fatal = fatal;
        error.retriable = retriable;
        error.txn_requires_abort = txn_requires_abort;
        Self(error)
    }

    /// The number, to be compared with the class's constants.
    fn code(&self) -> i32 {
        self.0.code.0
    }

    /// The constant's name.
    fn name(&self) -> String {
        self.label()
    }

    /// What happened, in words.
    fn str(&self) -> &str {
        &self.0.message
    }

    /// Whether the client is of no more use.
    fn fatal(&self) -> bool {
        self.0.fatal
    }

    /// Whether the same call may succeed later.
    fn retriable(&self) -> bool {
        self.0.retriable
    }

    /// Whether the transaction under way can only be aborted.
    fn txn_requires_abort(&self) -> bool {
        self.0.txn_requires_abort
    }

    fn __repr__(&self) -> String {
        let fatal = if self.0.fatal { "FATAL," } else { "" };
        format!(
            "KafkaError{{{fatal}code={},val={},str=\"{}\"}}",
            self.label(),
            self.0.code.0,
            self.0.message
        )
    }

    fn __str__(&self) -> String {
        self.__repr__()
    }

    fn __hash__(&self) -> i64 {
        self.0.code.0.into()
    }

    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let code = match other.cast::<KafkaError>() {
            Ok(error) => error.get().0.code.0.into(),
            Err(_) => match other.extract::<i64>() {
                Ok(code) => code,
                Err(_) => return Ok(other.py().NotImplemented()),
            },
        };
        let result = op.matches(i64::from(self.0.code.0).cmp(&code));
        Ok(result
            .into_pyobject(other.py())?
            .to_owned()
            .into_any()
            .unbind())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let error = &slf.get().0;
        let arguments = (
            error.code.0,
            &*error.message,
            error.fatal,
            error.retriable,
            error.txn_requires_abort,
        );
        (slf.get_type(), arguments).into_pyobject(slf.py())
    }
}

/// The exception of an error.
pub fn raise(error: ottla::KafkaError) -> PyErr {
    PyErr::new::<KafkaException, _>(KafkaError(error))
}

/// The exception of a property that was not taken.
pub fn refused(error: ottla::ConfigError) -> PyErr {
    raise(error.into())
}

/// A `KafkaError`, or Python's `None`.
pub fn optional_error<'py>(any: Option<&Bound<'py, PyAny>>) -> PyResult<Option<KafkaError>> {
    match any {
        None => Ok(None),
        Some(any) => match any.cast::<KafkaError>() {
            Ok(error) => Ok(Some(error.get().clone())),
            Err(_) => Err(PyTypeError::new_err("expected a KafkaError or None")),
        },
    }
}

/// The classes, with a constant for every code.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<KafkaError>()?;
    let class = py.get_type::<KafkaError>();
    for (code, name, _) in ErrCode::all() {
        class.setattr(name, code.0)?;
    }
    module.add("KafkaException", py.get_type::<KafkaException>())
}
