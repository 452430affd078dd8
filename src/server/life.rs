//! What the parts of a running process share: readiness, the listeners, the wish to stop.

use std::sync::{Arc, OnceLock};

use super::service::App;
use crate::admin::Readiness;
use crate::listener::Listeners;

/// Shared by the service, the configuration loop and the signal watch.
#[derive(Default)]
pub struct Life {
    pub ready: Arc<Readiness>,
    /// Set once the service runs.
    pub listeners: OnceLock<Arc<Listeners<App>>>,
}
