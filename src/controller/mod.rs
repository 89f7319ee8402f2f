//! The central program: holds the fleet's desired state, enrols servers, signs and pushes, collects reports.
//!
//! Owns: the store, the fleet's keys, who is connected. Never: logs into a server, computes a server's plan.
//! Start reading at [`daemon`].

pub mod api;
pub mod authority;
pub mod backup;
pub mod compose;
pub mod config;
pub mod daemon;
mod enrol;
pub mod hub;
mod inbox;
pub mod init;
pub mod keys;
pub mod newcomers;
pub mod push;
pub mod run;
mod session;
pub mod store;

use std::time::Duration;

use hub::Hub;
use inbox::Inbox;
use keys::Keys;
use store::Store;

/// Everything the controller works with. Time and randomness come from outside.
pub struct Controller {
    pub store: Store,
    pub keys: Keys,
    pub hub: Hub,
    inbox: Inbox,
    pub fleet: store::Fleet,
    /// `host:port` that servers dial, in this order.
    pub addresses: Vec<String>,
    /// Names this process among those that share the database.
    pub instance: uuid::Uuid,
    /// How long an agent's certificate lives.
    pub agent_life: Duration,
    pub now: fn() -> jiff::Timestamp,
    pub random: fn(&mut [u8]),
}

impl Controller {
    /// Ready to let agents in. The store's writes of many agents are gathered by a task that ends with the
    /// controller. `instance` is the name its process had before, if it had one: what was connected to it then is
    /// known not to be now.
    pub fn new(
        instance: uuid::Uuid,
        store: Store,
        keys: Keys,
        fleet: store::Fleet,
        addresses: Vec<String>,
        now: fn() -> jiff::Timestamp,
        random: fn(&mut [u8]),
    ) -> Self {
        let inbox = Inbox::start(store.clone(), instance, now);
        let (hub, agent_life) = (Hub::default(), authority::AGENT_LIFE);
        Self { store, keys, hub, inbox, fleet, addresses, instance, agent_life, now, random }
    }
}

/// A UUID of version 7 (RFC 9562).
pub fn new_id(now: jiff::Timestamp, random: fn(&mut [u8])) -> uuid::Uuid {
    let mut bytes = [0; 10];
    random(&mut bytes);
    uuid::Builder::from_unix_timestamp_millis(now.as_millisecond().unsigned_abs(), &bytes).into_uuid()
}
