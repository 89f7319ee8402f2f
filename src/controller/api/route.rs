//! What a route is. One value makes both the router's entry and the description's, so they cannot differ.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::App;
use super::auth::{Authorised, Level};
use super::error::Failure;
use super::types::Nothing;
use crate::controller::store::Scope;

pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub scope: Scope,
    pub summary: &'static str,
    pub(super) handler: MethodRouter<Arc<App>>,
    pub(super) shapes: fn(&mut SchemaGenerator) -> Shapes,
}

/// The schemas of what goes in and out.
pub(super) struct Shapes {
    pub path: Schema,
    pub query: Schema,
    /// None: no body is read.
    pub body: Option<Schema>,
    pub media: &'static str,
    /// None: bytes.
    pub answer: Option<Schema>,
}

/// What a handler is given besides the caller.
pub(super) struct Call<P, Q, B> {
    pub app: Arc<App>,
    pub path: P,
    pub query: Q,
    pub body: B,
}

/// A body that may be sent.
pub(super) trait Payload: DeserializeOwned + JsonSchema + Send + 'static {
    /// Of the JSON.
    const MAX_BYTES: usize = 64 << 10;
    const READ: bool = true;
    /// What a request without a body means, where none is read.
    fn none() -> Option<Self> {
        None
    }
}

impl Payload for Nothing {
    const READ: bool = false;
    fn none() -> Option<Self> {
        Some(Nothing {})
    }
}

/// What a handler may answer.
pub(super) trait Answer {
    const MEDIA: &'static str;
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
    fn into_response(self) -> Response;
}

/// One JSON value.
pub(super) struct Json<T>(pub T);

/// JSON values, one a line, as they come; the last one is the outcome.
pub(super) struct Lines<T>(pub Pin<Box<dyn Stream<Item = T> + Send>>);

/// A file.
pub(super) struct Download(pub Body);

impl<T: Serialize + JsonSchema> Answer for Json<T> {
    const MEDIA: &'static str = "application/json";

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.0).expect("an answer is plain data");
        with_media(Self::MEDIA, body)
    }
}

impl<T: Serialize + JsonSchema + 'static> Answer for Lines<T> {
    const MEDIA: &'static str = "application/x-ndjson";

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    fn into_response(self) -> Response {
        let lines = self.0.map(|line| {
            let mut bytes = serde_json::to_vec(&line).expect("a line is plain data");
            bytes.push(b'\n');
            Ok::<_, std::convert::Infallible>(bytes)
        });
        with_media(Self::MEDIA, Body::from_stream(lines))
    }
}

impl Answer for Download {
    const MEDIA: &'static str = "application/x-tar";

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }

    fn into_response(self) -> Response {
        with_media(Self::MEDIA, self.0)
    }
}

fn with_media(media: &'static str, body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, media), (CACHE_CONTROL, "no-store")], body.into()).into_response()
}

/// A route whose handler takes the caller's authorisation first: there is no other way to make one.
pub(super) fn route<L, P, Q, B, A, F, Fut>(
    _level: L,
    method: Method,
    path: &'static str,
    summary: &'static str,
    handler: F,
) -> Route
where
    L: Level,
    P: DeserializeOwned + JsonSchema + Send + 'static,
    Q: DeserializeOwned + JsonSchema + Send + 'static,
    B: Payload,
    A: Answer + 'static,
    F: Fn(Authorised<L>, Call<P, Q, B>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Failure>> + Send,
{
    let filter = MethodFilter::try_from(method.clone()).expect("a method of HTTP/1.1");
    // The order of the arguments is the order of the checks: the caller first, the body last.
    let serve = move |caller: Authorised<L>,
                      State(app): State<Arc<App>>,
                      Inner(Path(path)): Inner<Path<P>>,
                      Inner(Query(query)): Inner<Query<Q>>,
                      JsonBody(body): JsonBody<B>| {
        let handler = handler.clone();
        async move { Ok::<_, Failure>(handler(caller, Call { app, path, query, body }).await?.into_response()) }
    };
    let shapes = |generator: &mut SchemaGenerator| Shapes {
        path: P::json_schema(generator),
        query: Q::json_schema(generator),
        body: B::READ.then(|| generator.subschema_for::<B>()),
        media: A::MEDIA,
        answer: A::schema(generator),
    };
    Route { method, path, scope: L::SCOPE, summary, handler: on(filter, serve), shapes }
}

/// An extractor whose refusal is told as all of ours.
struct Inner<T>(T);

impl<T, S> FromRequestParts<S> for Inner<T>
where
    T: FromRequestParts<S, Rejection: std::fmt::Display>,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let taken = T::from_request_parts(parts, state).await;
        taken.map(Inner).map_err(|rejection| Failure::Malformed(rejection.to_string()))
    }
}

struct JsonBody<B>(B);

/// For a whole body.
const BODY_WITHIN: Duration = Duration::from_secs(60);

impl<B: Payload, S: Send + Sync> FromRequest<S> for JsonBody<B> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        if let Some(none) = B::none() {
            return Ok(Self(none));
        }
        if !is_json(request.headers()) {
            return Err(Failure::NoJson);
        }
        let body = Limited::new(request.into_body(), B::MAX_BYTES).collect();
        let body = tokio::time::timeout(BODY_WITHIN, body).await.map_err(|_| Failure::Slow)?;
        let bytes = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Failure::TooLong(B::MAX_BYTES),
            None => Failure::Malformed("the body ended early".to_owned()),
        })?;
        serde_json::from_slice(&bytes.to_bytes()).map(Self).map_err(|error| Failure::Malformed(error.to_string()))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
