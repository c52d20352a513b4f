//! Reasons for refused requests, in the form of the API.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::control::{chain, inventory::NameError, operations::OperationError};

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: String,
    /// Suggestion for the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) body: ErrorBody,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>, hint: Option<&str>) -> Self {
        let [error, hint] = [Some(error.into()), hint.map(str::to_owned)].map(|text| text.map(|text| plain(&text)));
        Self { status, body: ErrorBody { error: error.unwrap_or_default(), hint } }
    }

    /// A request that came after its deadline.
    pub(crate) fn too_late() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the request came too late, and was not done", None)
    }

    /// An internal failure, with all its causes.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, chain(error), None)
    }
}

/// Longest text of an error, bytes: it quotes the request, which may contain anything.
const LONGEST: usize = 32 << 10;

/// `text` without control characters, cut to the longest length.
fn plain(text: &str) -> String {
    let safe = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    text[..text.floor_char_boundary(LONGEST)].chars().map(safe).collect()
}

impl From<OperationError> for Refusal {
    fn from(error: OperationError) -> Self {
        match &error {
            OperationError::Name(name) => {
                let status = match name {
                    NameError::AmbiguousBackend { .. } => StatusCode::CONFLICT,
                    NameError::NoSuchBackend { .. }
                    | NameError::NoSuchService { .. }
                    | NameError::NoSuchPool { .. }
                    | NameError::PoolNotInService { .. } => StatusCode::NOT_FOUND,
                };
                Self::new(status, error.to_string(), Some(&name.hint()))
            }
            OperationError::Reason { .. }
            | OperationError::Evacuations
            | OperationError::Weight { .. }
            | OperationError::Retired { .. } => Self::new(StatusCode::BAD_REQUEST, error.to_string(), None),
            OperationError::Maps(_) => Self::internal(&error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
