//! What goes between a controller and its agents.
//!
//! Owns: the join token, keys and signed documents, the messages and their frames, TLS, how a local door is opened. Never: decides
//! what is pushed or accepted; opens a file, or a socket that nobody asked for. Start reading at [`message`].
//!
//! One port, TLS 1.3. What a client may say is chosen by the ALPN protocol (RFC 7301) of its handshake:
//! [`tls::AGENT`] demands a client certificate, [`tls::ENROL`] allows one call, [`enrol::Call`]. Then
//! length-delimited JSON ([`frame`]) both ways.

pub mod door;
pub mod enrol;
pub mod envelope;
pub mod frame;
pub mod key;
pub mod message;
pub mod seal;
pub mod succession;
pub mod tls;
pub mod token;

pub use envelope::{Envelope, Payload, Purpose};
pub use key::{PublicKey, SigningKey};
pub use token::JoinToken;
