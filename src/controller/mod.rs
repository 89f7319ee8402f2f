//! The central program: holds the fleet's desired state, enrols servers, signs and pushes, collects reports.
//!
//! Owns: the store, the fleet's keys, who is connected. Never: logs into a server, computes a server's plan.
//! Start reading at [`daemon`].

pub mod authority;
pub mod compose;
pub mod store;
