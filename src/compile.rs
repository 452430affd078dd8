//! The pure function from what users wrote to what is served.
//!
//! [`compile`] takes an inventory and gives a plan, the endpoint table and findings. It does no
//! I/O, asks no clock and keeps no state: `check`, `explain`, tests and the server run the same
//! code. Every object, server, rule, match and subset that goes in comes out as serving, shadowed,
//! fenced, unsupported or not for this gateway, with a finding unless it simply serves.

mod bind;
mod damage;
mod gateway;
mod hosts;
pub mod ledger;
pub mod options;
mod pattern;
mod protect;
mod registry;
mod rule;
mod validate;
mod version;

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{Finding, Findings, ObjectKey};
use crate::model::{Inventory, Object};
use crate::plan::{Digest, EndpointTable, Plan};

use bind::Services;
use gateway::Gateways;
use pattern::Patterns;
use registry::Registry;
use rule::Translator;

pub use options::Options;

/// The last error-free version of each object, held by the server between compiles.
pub type LastGood = HashMap<ObjectKey, Arc<Object>, foldhash::fast::RandomState>;

/// What one compile gives.
#[derive(Debug, Default)]
pub struct Compiled {
    pub plan: Plan,
    pub endpoints: EndpointTable,
    /// Sorted as shown; includes the inventory's own.
    pub findings: Findings,
    /// What to pass as `last_good` next time: every error-free object, and the earlier version
    /// of every broken one that still exists.
    pub good: LastGood,
}

/// Compiles an inventory.
#[must_use]
pub fn compile(inventory: &Inventory, last_good: &LastGood, options: &Options) -> Compiled {
    let mut findings = inventory.findings.clone();
    let patterns = Patterns::default();
    let (versions, good) = version::choose(inventory, last_good, &patterns, &mut findings);
    let mut gateways = Gateways::read(&versions, options, &mut findings);
    let sockets = gateway::listen::sockets(&mut gateways, &mut findings);
    let services = Services::read(&versions, &gateways, options, &mut findings);
    let mut registry = Registry::build(&versions, options, &mut findings);
    let mut translator = Translator::new(
        options,
        &versions,
        &gateways,
        &services,
        &patterns,
        &mut registry,
        &mut findings,
    );
    let mut listeners = hosts::listeners(&sockets.http, &gateways, &services, &mut translator);
    let delegates = std::mem::take(&mut translator.delegates);
    services.report(&delegates, &mut findings);
    let tls = gateway::tls::sockets(&sockets, &gateways, &versions, options, &mut findings);
    protect::fence(&versions, options, &mut listeners, &mut findings);
    let (clusters, endpoints) = registry.finish(&mut findings);
    let http = options.http.clone();
    let mut plan = Plan {
        listeners,
        tls,
        clusters,
        http,
        ..Plan::default()
    };
    plan.digest = Digest::of_plan(&plan);
    // One rule is translated once per declared port; what is wrong with it is said once.
    Finding::sort(&mut findings);
    findings.dedup();
    Compiled {
        plan,
        endpoints,
        findings,
        good,
    }
}
