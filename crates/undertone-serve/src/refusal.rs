//! Why a request cannot be served.

/// A request that cannot be served: HTTP status 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    /// The parameter.
    pub(crate) param: Option<String>,
}

impl Refusal {
    pub(crate) fn of(param: &str, cause: impl Into<String>) -> Self {
        Self { message: format!("{param}: {}", cause.into()), param: Some(param.to_owned()) }
    }
}
