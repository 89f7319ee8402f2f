//! The only code that writes state files. Knows nothing of what it writes.
//!
//! The one commit primitive is temporary file, fsync, rename, fsync of the directory; for a set of
//! files, a generation directory and one swapped symbolic link. After an interruption a reader finds
//! the old bytes or the new ones.

mod file;
pub mod generation_dir;
mod lines;
mod link;
mod lock;

pub use file::{DurableError, put_in_place, read, remove, rename, write, write_new};
pub use lines::{Appender, read_lines};
pub use link::swap_link;
pub use lock::{HostLock, LockError};
