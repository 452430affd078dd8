//! How users' objects arrive: files and folders, read and watched.
//!
//! [`Loader`] turns paths into an [`Inventory`](crate::model::Inventory) and keeps what it read,
//! so that a change costs only the files it touched and a broken file keeps what it last said.
//! [`Watcher`] tells which paths changed. `server` and `cli` call both; nothing here knows what
//! an object means.

mod certificates;
mod contents;
pub mod files;
mod kinds;
mod merge;
#[cfg(test)]
mod tests;
mod walk;
pub mod watch;
mod yaml;

pub use files::{LoadOptions, Loader};
pub use watch::{WatchError, Watcher};
