//! The operators' API: JSON over HTTP/1.1, on a local socket and, if configured, over HTTPS.
//!
//! | file | what |
//! |---|---|
//! | [`routes`] | every route, in one table |
//! | `route` | what a route is; from one to the router and to the description |
//! | `auth` | who asks: the local socket is an administrator, HTTPS brings a token |
//! | `fleet`, `servers`, `tokens`, `records` | the handlers |
//! | `rollout` | a push as its watcher sees it, until every server has answered or cannot |
//! | [`status`] | what to say of a server (pure) |
//! | [`types`] | what goes over the wire; the command line reads the same types |
//! | [`listen`] | the two doors |
//!
//! # Guarantees
//!
//! A handler gets an `Authorised<Level>`, which only the check of the caller makes: a route without authorisation
//! does not compile, and no body is read before it. Whatever changes something has its audit entry in the same
//! transaction (`store`).

mod auth;
mod error;
mod fleet;
mod invitation;
pub mod listen;
mod openapi;
mod records;
mod rollout;
mod route;
mod servers;
pub mod status;
mod tokens;
pub mod types;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::http::Method;

pub use auth::{LocalPeer, new_token};
pub use error::Failure;
pub use openapi::description;
pub use rollout::Patience;
pub use route::Route;

use super::Controller;
use crate::recipe::Catalog;
use auth::{Admin, Read, Write};
use route::route;

/// What the handlers work with.
pub struct App {
    pub controller: Arc<Controller>,
    /// Judges fleets before they are pushed.
    pub catalog: Catalog,
    /// The controller's directory.
    pub home: PathBuf,
    /// The script a blank server runs, and the repository it installs from if not its own.
    pub bootstrap_url: Option<String>,
    pub repository: Option<String>,
    pub patience: Patience,
}

/// Every route.
pub fn routes() -> Vec<Route> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const DELETE: Method = Method::DELETE;
    vec![
        route(Read, GET, "/v1/fleet/status", "Where every server stands", fleet::status),
        route(Read, GET, "/v1/fleet/revisions", "Who applied what when", fleet::revisions),
        route(Read, GET, "/v1/fleet/revisions/{number}", "The files of a revision", fleet::revision),
        route(Read, GET, "/v1/fleet/diff", "What differs between two revisions", fleet::diff),
        route(Write, POST, "/v1/fleet/plan", "What each server would do", fleet::plan),
        route(Write, POST, "/v1/fleet/apply", "Push a fleet, and follow the servers", fleet::apply),
        route(Read, GET, "/v1/servers", "The servers that enrolled", servers::list),
        route(Admin, POST, "/v1/servers", "Make a join token for a server", servers::add),
        route(Admin, POST, "/v1/servers/{name}/ban", "Never let a server in again", servers::ban),
        route(Admin, POST, "/v1/servers/{name}/evict", "Put a server out until it enrols anew", servers::evict),
        route(
            Write,
            PUT,
            "/v1/servers/{name}/document",
            "Push one server's document, and follow it",
            servers::put_document,
        ),
        route(Write, POST, "/v1/servers/{name}/plan", "What one server would do", servers::plan_document),
        route(Admin, GET, "/v1/join-tokens", "The join tokens", tokens::join_tokens),
        route(Admin, DELETE, "/v1/join-tokens/{id}", "Revoke a join token", tokens::revoke_join_token),
        route(Admin, GET, "/v1/api-tokens", "The operators' tokens", tokens::api_tokens),
        route(Admin, POST, "/v1/api-tokens", "Make an operator's token", tokens::add_api_token),
        route(Admin, DELETE, "/v1/api-tokens/{id}", "Revoke an operator's token", tokens::revoke_api_token),
        route(Read, GET, "/v1/audit", "Who changed what", records::audit),
        route(Write, POST, "/v1/alarms/clear", "Clear an alarm", records::clear_alarm),
        route(Admin, POST, "/v1/backup", "The database and the keys as one file", records::backup),
        route(Read, GET, "/v1/sites-authority", "Whom visitors of private sites trust", records::sites_authority),
        route(Read, GET, "/v1/openapi.json", "This description", records::openapi),
    ]
}

pub fn router(app: Arc<App>) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    router.fallback(error::no_such_route).method_not_allowed_fallback(error::no_such_method).with_state(app)
}
