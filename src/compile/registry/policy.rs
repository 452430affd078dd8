//! What of a DestinationRule's traffic policy holds for one port of one subset, and what of it
//! Pingress does not do.
//!
//! Blocks replace each other whole: a subset's block takes the place of the rule's, and a
//! `portLevelSettings` entry of the port takes the place of all of them, set or not.
//! Called for every cluster, and once per policy for its findings.

use std::sync::Arc;

use crate::base::{Code, Finding, Findings, Origin};
use crate::compile::Options;
use crate::model::istio::destination_rule::{
    ClientTls, ConnectionPool, LoadBalancer, LocalityLb, OutlierDetection, ProxyProtocol,
    RetryBudget, TrafficPolicy,
};
use crate::model::{FieldPath, Object};
use crate::plan::{Balancing, Fence, OriginTls, Outlier, Pool, Protocol, ProxyVersion};

use super::port::Speech;

mod balancing;
mod outlier;
mod pool;
mod tls;

pub(super) use tls::{Site, Store};

/// A traffic policy as written, and where.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub policy: &'a TrafficPolicy,
    pub object: &'a Object,
    pub path: FieldPath,
}

/// The blocks that hold after overlaying.
#[derive(Debug, Default)]
pub(super) struct Effective<'a> {
    load_balancer: Option<&'a LoadBalancer>,
    connection_pool: Option<&'a ConnectionPool>,
    outlier_detection: Option<&'a OutlierDetection>,
    retry_budget: Option<&'a RetryBudget>,
    tls: Option<(&'a ClientTls, &'a Object, FieldPath)>,
    proxy_protocol: Option<&'a ProxyProtocol>,
    /// Where the policy that was laid on last is written.
    pub origin: Option<Origin>,
}

/// The four blocks that a policy and its port-level settings share.
struct Blocks<'a> {
    load_balancer: Option<&'a LoadBalancer>,
    connection_pool: Option<&'a ConnectionPool>,
    outlier_detection: Option<&'a OutlierDetection>,
    tls: Option<&'a ClientTls>,
    /// Whether outlier detection may hold together with them.
    detects: bool,
}

impl<'a> Effective<'a> {
    /// Lays the policies over each other, outermost first, for a service port.
    pub(super) fn of<'l>(layers: impl IntoIterator<Item = &'l Layer<'a>>, port: u16) -> Self
    where
        'a: 'l,
    {
        let mut effective = Self::default();
        for layer in layers {
            effective.lay(layer, port);
        }
        effective
    }

    pub(super) fn balancing(&self) -> Balancing {
        self.load_balancer.map(balancing::read).unwrap_or_default()
    }

    /// The locality setting that holds, and whether failures are detected.
    pub(super) fn locality(&self) -> (Option<&'a LocalityLb>, bool) {
        let setting = self
            .load_balancer
            .and_then(|block| block.locality_lb_setting.as_deref());
        (setting, self.outlier_detection.is_some())
    }

    pub(super) fn pool(&self) -> Pool {
        Pool {
            retry_budget: self.retry_budget.map(pool::budget),
            ..self.connection_pool.map(pool::read).unwrap_or_default()
        }
    }

    pub(super) fn outlier(&self) -> Option<Outlier> {
        self.outlier_detection.map(outlier::read)
    }

    /// What is spoken to endpoints of a port that speaks `speech`.
    pub(super) fn protocol(&self, speech: Speech, options: &Options) -> Protocol {
        let mesh = options.h2_upgrade && speech == Speech::Http1;
        pool::protocol(self.connection_pool, speech.protocol(), mesh)
    }

    /// Unset means the first version.
    pub(super) fn proxy_protocol(&self) -> Option<ProxyVersion> {
        self.proxy_protocol
            .map(|block| match block.version.as_deref() {
                Some("V2") => ProxyVersion::V2,
                _ => ProxyVersion::V1,
            })
    }

    /// Where TLS with the mesh's certificates is asked for, if it is.
    pub(super) fn mesh_tls(&self) -> Option<(&'a Object, FieldPath)> {
        let (tls, object, path) = self.tls.as_ref()?;
        (tls::mode(tls) == Some("ISTIO_MUTUAL")).then(|| (*object, path.clone()))
    }

    /// TLS to the endpoints.
    ///
    /// # Errors
    /// A certificate or an authority cannot be had: nobody is asked without it.
    pub(super) fn tls(
        &self,
        store: Store<'_>,
        site: Site<'_>,
    ) -> Result<Option<Arc<OriginTls>>, Arc<Fence>> {
        let Some((tls, object, path)) = &self.tls else {
            return Ok(None);
        };
        let read = tls::read(tls, path, store, site);
        read.map(|read| read.map(Arc::new)).map_err(|missing| {
            let reason = format!(
                "{} wants TLS to the origin, and {}",
                object.key, missing.message
            );
            Arc::new(Fence {
                origin: object.origin_of(&missing.path),
                reason: reason.into(),
            })
        })
    }

    fn lay(&mut self, layer: &Layer<'a>, port: u16) {
        let Layer {
            policy,
            object,
            path,
        } = layer;
        self.origin = Some(object.origin_of(path));
        self.load_balancer = policy.load_balancer.as_ref().or(self.load_balancer);
        self.connection_pool = policy.connection_pool.as_ref().or(self.connection_pool);
        self.outlier_detection = policy.outlier_detection.as_ref().or(self.outlier_detection);
        // Not of the blocks that port-level settings replace.
        self.proxy_protocol = policy.proxy_protocol.as_ref().or(self.proxy_protocol);
        self.retry_budget = policy.retry_budget.as_ref().or(self.retry_budget);
        if let Some(tls) = &policy.tls {
            self.tls = Some((tls, object, path.field("tls")));
        }
        let settings = policy.port_level_settings.iter().enumerate();
        let settings = settings.filter_map(|(index, slot)| Some((index, slot.good()?)));
        let is_meant = |number: Option<u32>| number == Some(u32::from(port));
        let mut meant = settings
            .filter(|(_, settings)| is_meant(settings.port.and_then(|selector| selector.number)));
        if let Some((index, settings)) = meant.next() {
            let path = path.field("portLevelSettings").index(index);
            self.load_balancer = settings.load_balancer.as_ref();
            self.connection_pool = settings.connection_pool.as_ref();
            self.outlier_detection = settings.outlier_detection.as_ref();
            self.tls = settings
                .tls
                .as_ref()
                .map(|tls| (tls, *object, path.field("tls")));
            self.origin = Some(object.origin_of(&path));
        }
    }
}

impl<'a> Layer<'a> {
    /// Reports every field that is set and not honoured, and every protection not enforced.
    /// `detects` says whether a policy that this one is laid on, or that is laid on this one,
    /// brings outlier detection.
    pub(super) fn report(
        &self,
        host: &str,
        detects: bool,
        store: Store<'_>,
        findings: &mut Findings,
    ) {
        let policy = self.policy;
        let blocks = Blocks {
            load_balancer: policy.load_balancer.as_ref(),
            connection_pool: policy.connection_pool.as_ref(),
            outlier_detection: policy.outlier_detection.as_ref(),
            tls: policy.tls.as_ref(),
            detects: detects || policy.outlier_detection.is_some(),
        };
        self.report_blocks(&blocks, &self.path, host, store, findings);
        let tunnel = [("tunnel", policy.tunnel.is_some())];
        self.unsupported(&self.path, &tunnel, findings);
        for (index, slot) in policy.port_level_settings.iter().enumerate() {
            let Some(settings) = slot.good() else {
                continue;
            };
            let blocks = Blocks {
                load_balancer: settings.load_balancer.as_ref(),
                connection_pool: settings.connection_pool.as_ref(),
                outlier_detection: settings.outlier_detection.as_ref(),
                tls: settings.tls.as_ref(),
                detects: settings.outlier_detection.is_some(),
            };
            let path = self.path.field("portLevelSettings").index(index);
            self.report_blocks(&blocks, &path, host, store, findings);
        }
    }

    fn report_blocks(
        &self,
        blocks: &Blocks<'a>,
        path: &FieldPath,
        host: &str,
        store: Store<'_>,
        findings: &mut Findings,
    ) {
        if let Some(balancer) = blocks.load_balancer {
            let inert = balancing::inert(balancer, blocks.detects, &store.options.locality);
            self.inert(&path.field("loadBalancer"), inert, findings);
        }
        if let Some(pool) = blocks.connection_pool {
            let fields = pool.http.as_deref().and_then(pool::unsupported_keep_alive);
            if let Some(fields) = fields {
                let path = path.field("connectionPool").field("http");
                self.unsupported(&path.field("http2KeepAlive"), &fields, findings);
            }
        }
        if let Some(detection) = blocks.outlier_detection {
            let path = path.field("outlierDetection");
            self.inert(&path, outlier::inert(detection), findings);
        }
        if let Some(tls) = blocks.tls {
            self.report_tls(tls, &path.field("tls"), host, store, findings);
        }
    }

    fn report_tls(
        &self,
        tls: &ClientTls,
        path: &FieldPath,
        host: &str,
        store: Store<'_>,
        findings: &mut Findings,
    ) {
        self.inert(path, tls::inert(tls), findings);
        if let Some((field, message, hint)) = tls::unverified(tls) {
            let path = path.field(field);
            let finding = Finding::new(Code::UNVERIFIED_ORIGIN, message).hint(hint);
            findings.push(self.placed(finding, &path));
        }
        let Err(missing) = tls::material(tls, path, store) else {
            return;
        };
        let message = format!("{}; traffic for `{host}` answers 503", missing.message);
        let (code, hint) = match missing.is_unknown {
            true => (
                Code::REFERENCED_RESOURCE_NOT_FOUND,
                "add it to the manifests; a Secret belongs in the gateway's own namespace (gateway.namespace)",
            ),
            false => (
                Code::INVALID_VALUE,
                "mend what is named here; it is taken up at once",
            ),
        };
        let finding = Finding::new(code, message).hint(hint);
        findings.push(self.placed(finding, &missing.path));
    }

    fn placed(&self, finding: Finding, path: &FieldPath) -> Finding {
        finding
            .at(&self.object.origin_of(path))
            .of(&self.object.key)
            .path(path.to_string())
    }

    /// `fields` have dots between their steps.
    fn inert<'f>(
        &self,
        path: &FieldPath,
        fields: impl IntoIterator<Item = (&'f str, &'f str)>,
        findings: &mut Findings,
    ) {
        for (name, why) in fields {
            let path = name
                .split('.')
                .fold(path.clone(), |path, step| path.field(step));
            let message = format!("`{name}` has no effect: {why}");
            findings.push(
                Finding::new(Code::INERT_FIELD, message)
                    .at(&self.object.origin_of(&path))
                    .of(&self.object.key)
                    .path(path.to_string()),
            );
        }
    }

    fn unsupported(&self, path: &FieldPath, fields: &[(&str, bool)], findings: &mut Findings) {
        for (name, _) in fields.iter().filter(|(_, is_set)| *is_set) {
            let path = name
                .split('.')
                .fold(path.clone(), |path, part| path.field(part));
            let message = format!("`{name}` is not supported yet; traffic is served without it");
            findings.push(
                Finding::new(Code::UNSUPPORTED, message)
                    .at(&self.object.origin_of(&path))
                    .of(&self.object.key)
                    .path(path.to_string())
                    .hint("remove the field, or do without what it promises until it is supported"),
            );
        }
    }
}
