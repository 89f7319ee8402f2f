//! The words of the product as types. Pure: opens no file, reads no clock.
//!
//! | word | type |
//! |---|---|
//! | document, as written and valid | [`document`] |
//! | resource and its kind | [`id::ResourceId`], [`id::Kind`] |
//! | unit of systemd, typed and rendered | [`unit`] |
//! | certificate that is wanted, and how it stands | [`certificate`] |
//! | how backups stand | [`backup`] |
//! | plan as it is shown; events and report of a pass | [`preview`], [`event`], [`report`] |
//! | how far a fleet server has come | [`fleet`] |
//! | problem in something a user wrote | [`problem`] |

pub mod backup;
pub mod certificate;
pub mod content;
pub mod digest;
pub mod document;
pub mod event;
pub mod fleet;
pub mod id;
pub mod preview;
pub mod problem;
pub mod report;
pub mod sealed;
pub mod unit;

pub use content::{Content, Secret};
pub use digest::Digest;
pub use id::{Domain, Generation, Kind, Name, ResourceId, Version};
pub use sealed::Sealed;
