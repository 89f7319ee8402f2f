//! What went wrong, as an answer: a status, a code that stays, a sentence, an act.

use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::types::FailureBody;
use crate::controller::backup::BackupError;
use crate::controller::push::PushError;
use crate::controller::store::{self, JoinTokenError, PutError, Scope, StoreError};
use crate::model::Name;
use crate::model::problem::Problem;
use crate::model::report::ErrorReport;
use crate::wire::tls::TlsError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the request carries no token")]
    NoToken,
    /// Never made, or revoked: they are not told apart.
    #[error("the token is not known")]
    UnknownToken,
    #[error("the token may {}, and this needs {}", .has.as_str(), .needs.as_str())]
    Forbidden { has: Scope, needs: Scope },
    #[error("there is no `{0}` here")]
    NoRoute(String),
    #[error("this cannot be asked of it")]
    NoMethod,
    #[error("the request is not understood: {0}")]
    Malformed(String),
    #[error("the body is not `application/json`")]
    NoJson,
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    #[error("the body did not come in time")]
    Slow,
    #[error("{} problem(s) found, nothing was changed", .0.len())]
    Refused(Vec<Problem>),
    #[error("there is no {what} `{which}`")]
    NotFound { what: &'static str, which: String },
    #[error("`{0}` is enrolled already")]
    Enrolled(Name),
    #[error("revision {newest} was applied meanwhile, and this was made from {expected}")]
    Overtaken { expected: u64, newest: u64 },
    #[error("revision {0} is not one that this program accepts any more, so it cannot be compared")]
    OldRevision(u64),
    #[error(transparent)]
    Put(#[from] PutError),
    #[error(transparent)]
    JoinToken(#[from] JoinTokenError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Put(error) => error.into(),
            PushError::Store(error) => error.into(),
        }
    }
}

impl Failure {
    pub fn status(&self) -> StatusCode {
        match self {
            Failure::NoToken | Failure::UnknownToken => StatusCode::UNAUTHORIZED,
            Failure::Forbidden { .. } => StatusCode::FORBIDDEN,
            Failure::NoRoute(_) | Failure::NotFound { .. } => StatusCode::NOT_FOUND,
            Failure::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Failure::Malformed(_) => StatusCode::BAD_REQUEST,
            Failure::NoJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Failure::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::Slow => StatusCode::REQUEST_TIMEOUT,
            Failure::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Failure::Enrolled(_) | Failure::Overtaken { .. } | Failure::OldRevision(_) => StatusCode::CONFLICT,
            Failure::Put(PutError::NotEnrolled(_) | PutError::MarksExhausted { .. }) => StatusCode::CONFLICT,
            Failure::JoinToken(JoinTokenError::Unknown(_)) => StatusCode::NOT_FOUND,
            Failure::Backup(BackupError::Store(store::BackupError::UsePostgres { .. })) => StatusCode::CONFLICT,
            Failure::Store(error)
            | Failure::Put(PutError::Store(error))
            | Failure::JoinToken(JoinTokenError::Store(error))
            | Failure::Backup(BackupError::Store(store::BackupError::Store(error))) => of_store(error),
            Failure::Backup(_) | Failure::Tls(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Failure::NoToken => "api.no-token",
            Failure::UnknownToken => "api.unknown-token",
            Failure::Forbidden { .. } => "api.forbidden",
            Failure::NoRoute(_) => "api.no-such-route",
            Failure::NoMethod => "api.no-such-method",
            Failure::Malformed(_) | Failure::NoJson => "api.malformed",
            Failure::TooLong(_) => "api.too-long",
            Failure::Slow => "api.slow",
            Failure::Refused(_) => "document.refused",
            Failure::NotFound { .. } => "api.not-found",
            Failure::Enrolled(_) => "server.enrolled",
            Failure::Overtaken { .. } => "fleet.overtaken",
            Failure::OldRevision(_) => "fleet.old-revision",
            Failure::Put(PutError::NotEnrolled(_)) => "server.not-enrolled",
            Failure::Put(PutError::MarksExhausted { .. }) => "server.marks-exhausted",
            Failure::JoinToken(JoinTokenError::Unknown(_)) => "api.not-found",
            Failure::Backup(_) => "controller.backup",
            Failure::Tls(_) => "controller.keys",
            Failure::Store(error)
            | Failure::Put(PutError::Store(error))
            | Failure::JoinToken(JoinTokenError::Store(error)) => match error {
                StoreError::Banned(_) => "server.banned",
                StoreError::NoSuchServer(_) => "api.not-found",
                _ => "controller.store",
            },
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Failure::NoToken => "give a token: `Authorization: Bearer socle_…`, or `--api-token-file FILE`".to_owned(),
            Failure::UnknownToken => "on the controller: socle controller api-token add NAME".to_owned(),
            Failure::Forbidden { needs, .. } => {
                format!("on the controller: socle controller api-token add NAME --scope {}", needs.as_str())
            }
            Failure::NoRoute(_) | Failure::NoMethod => "GET /v1/openapi.json lists what there is".to_owned(),
            Failure::NotFound { what: "server", .. } => "socle controller server list".to_owned(),
            Failure::NotFound { what: "revision", .. } => "socle fleet history".to_owned(),
            Failure::Enrolled(name) => {
                format!("to let it enrol anew: socle controller server evict {name}, then this again")
            }
            Failure::Overtaken { .. } => {
                "take the newest state from where the fleet is kept, then try again".to_owned()
            }
            Failure::Put(PutError::NotEnrolled(names)) => {
                format!("socle controller server add {}", names.first().map_or("NAME", Name::as_str))
            }
            Failure::Store(error)
            | Failure::Put(PutError::Store(error))
            | Failure::JoinToken(JoinTokenError::Store(error)) => return error.hint(),
            Failure::Backup(error) => return error.hint(),
            _ => return None,
        })
    }

    pub fn report(&self) -> ErrorReport {
        ErrorReport::of(self.code(), self, self.hint())
    }
}

fn of_store(error: &StoreError) -> StatusCode {
    match error {
        StoreError::NoSuchServer(_) => StatusCode::NOT_FOUND,
        StoreError::Banned(_) => StatusCode::CONFLICT,
        error if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status();
        let error = self.report();
        if status.is_server_error() {
            tracing::error!(code = error.code, "{error}");
        }
        let problems = if let Failure::Refused(problems) = self { problems } else { Vec::new() };
        let body = serde_json::to_vec(&FailureBody { error, problems }).expect("a failure is plain data");
        let mut response = (status, [(CONTENT_TYPE, "application/json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(super) async fn no_such_route(uri: Uri) -> Failure {
    Failure::NoRoute(uri.path().chars().filter(|c| !c.is_control()).take(100).collect())
}

pub(super) async fn no_such_method() -> Failure {
    Failure::NoMethod
}
