//! Who asks, and whether they may.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::App;
use super::error::Failure;
use crate::controller::store::{By, Scope};
use crate::model::Digest;

/// On a connection of the local socket: who the kernel says the other end is. Whoever may open the socket (root
/// and the group `socle`) is an administrator.
#[derive(Debug, Clone, Copy)]
pub struct LocalPeer {
    pub uid: u32,
}

/// A caller who may do what needs `L`. Made by the check alone.
pub struct Authorised<L> {
    who: String,
    level: PhantomData<fn() -> L>,
}

/// What a route demands.
pub trait Level: 'static {
    const SCOPE: Scope;
}

pub struct Read;
pub struct Write;
pub struct Admin;

impl Level for Read {
    const SCOPE: Scope = Scope::Read;
}

impl Level for Write {
    const SCOPE: Scope = Scope::Write;
}

impl Level for Admin {
    const SCOPE: Scope = Scope::Admin;
}

impl<L> Authorised<L> {
    /// For the audit.
    pub fn by(&self, now: jiff::Timestamp) -> By {
        By::new(self.who.clone(), now)
    }
}

impl<L: Level> FromRequestParts<Arc<App>> for Authorised<L> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let (who, scope) = match parts.extensions.get::<LocalPeer>() {
            Some(peer) => (format!("uid:{}", peer.uid), Scope::Admin),
            None => bearer(parts, app).await?,
        };
        if scope < L::SCOPE {
            return Err(Failure::Forbidden { has: scope, needs: L::SCOPE });
        }
        Ok(Self { who, level: PhantomData })
    }
}

async fn bearer(parts: &Parts, app: &App) -> Result<(String, Scope), Failure> {
    let header = parts.headers.get(AUTHORIZATION).ok_or(Failure::NoToken)?;
    let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).ok_or(Failure::NoToken)?;
    // What cannot be one costs no look into the database.
    let digest = digest(token).ok_or(Failure::UnknownToken)?;
    let now = (app.controller.now)();
    let found = app.controller.store.use_api_token(digest, now).await?.ok_or(Failure::UnknownToken)?;
    Ok((format!("token:{}", found.name), found.scope))
}

const PREFIX: &str = "socle_";
const BYTES: usize = 32;

/// A new token of 256 random bits, and what is kept of it.
pub fn new_token(random: impl Fn(&mut [u8])) -> (String, Digest) {
    let mut bytes = [0; BYTES];
    random(&mut bytes);
    let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let digest = Digest::of(&token);
    (token, digest)
}

/// Of a text that has the form of a token.
fn digest(token: &str) -> Option<Digest> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
    (bytes.len() == BYTES).then(|| Digest::of(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_from_what_is_none() {
        let (token, kept) = new_token(|bytes| bytes.fill(0xab));
        assert_eq!(token.len(), 49);
        assert_eq!(digest(&token), Some(kept));
        for bad in ["", "socle_", "socle_!", &token[..48], &token[6..], &format!("{token}AAAA")] {
            assert_eq!(digest(bad), None, "{bad}");
        }
    }
}
