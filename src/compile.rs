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
mod memory;
pub mod options;
mod pattern;
mod protect;
mod registry;
mod rule;
mod stream;
mod telemetry;
mod validate;
mod version;

use std::sync::Arc;

use crate::base::{Finding, Findings};
use crate::model::{Inventory, Object, Spec};
use crate::plan::{Digest, EndpointTable, Plan};

use bind::Services;
use gateway::Gateways;
use pattern::Patterns;
use registry::Registry;
use rule::{Given, Translator};

pub use memory::Memory;
pub use options::Options;
pub use rule::retry::of_mesh as retry_policy;

/// What one compile gives.
#[derive(Debug, Default)]
pub struct Compiled {
    pub plan: Plan,
    pub endpoints: EndpointTable,
    /// Sorted as shown; includes the inventory's own.
    pub findings: Findings,
}

/// Compiles an inventory.
///
/// `memory` holds the last error-free versions of broken objects, and results that are taken over
/// where what they were made from is unchanged: after a change of one object, the rest costs a few
/// comparisons.
#[must_use]
pub fn compile(inventory: &Inventory, memory: &mut Memory, options: &Options) -> Compiled {
    let mut findings = inventory.findings.clone();
    let patterns = Patterns::default();
    let (versions, mut kept) = version::choose(inventory, memory, &patterns, &mut findings);
    let is_gateway = |object: &&Arc<Object>| matches!(object.spec, Spec::Gateway(_));
    memory.settle(options, versions.others().filter(is_gateway), &mut kept);
    let mut gateways = Gateways::read(&versions, options, &mut findings);
    let sockets = gateway::listen::sockets(&mut gateways, &mut findings);
    let services = Services::read(&versions, &mut kept, &gateways, options, &mut findings);
    let slots = std::mem::take(&mut memory.slots);
    let mut registry = Registry::build(&versions, options, slots, &mut findings);
    let given = Given {
        options,
        versions: &versions,
        gateways: &gateways,
        services: &services,
        patterns: &patterns,
    };
    let mut translator = Translator::new(given, &mut registry, &mut memory.words, &mut findings);
    let mut listeners = hosts::listeners(
        &sockets.http,
        &gateways,
        &services,
        &mut kept,
        &mut memory.sockets,
        &mut translator,
    );
    let delegates = std::mem::take(&mut translator.delegates);
    services.report(&delegates, &mut findings);
    let streams = stream::Streaming {
        options,
        versions: &versions,
        gateways: &gateways,
        services: &services,
        registry: &mut registry,
        findings: &mut findings,
    }
    .routes(&sockets);
    let tls = gateway::tls::Terminating {
        sockets: &sockets,
        gateways: &gateways,
        streams: &streams,
    };
    let mut tls = tls.sockets(&versions, options, &mut findings);
    let mut tcp = gateway::listen::tcp(&sockets, &gateways, &streams);
    let (limits, checks) = protect::protect(
        &versions,
        options,
        &gateways,
        &patterns,
        &mut registry,
        &mut listeners,
        &mut findings,
    );
    protect::protect_streams(
        &versions,
        options,
        &gateways,
        &patterns,
        &checks,
        (&mut tls, &mut tcp),
        &mut findings,
    );
    let tracing = telemetry::tracing(&versions, options, &mut findings);
    let (clusters, endpoints, slots) = registry.finish(&mut findings);
    memory.slots = slots;
    let mut plan = Plan {
        listeners,
        tls,
        tcp,
        clusters,
        limits,
        checks,
        http: options.http.clone(),
        tracing,
        ..Plan::default()
    };
    plan.digest = Digest::of_parts(&plan, &memory.digests(&plan));
    memory.keep(kept, options, plan.clusters.len());
    // One rule is translated once per declared port; what is wrong with it is said once.
    Finding::sort(&mut findings);
    findings.dedup();
    Compiled {
        plan,
        endpoints,
        findings,
    }
}
