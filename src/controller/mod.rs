//! The central program: holds the fleet's desired state, enrols servers, signs and pushes, collects reports.

pub mod compose;
