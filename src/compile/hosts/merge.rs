//! One virtual host after the other, from the branches of the VirtualServices that flow into it.
//!
//! What the last compile made of the same branches is taken over as it is.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::{Code, Finding, Findings, HostPattern, Origin};
use crate::compile::bind::Services;
use crate::compile::gateway::{Gateways, Server};
use crate::compile::memory::{Kept, KeptBranches, Vhosts};
use crate::compile::rule::{Branch, Branches, Translator};
use crate::plan::paths::PathIndex;
use crate::plan::{Action, Digest, Route, VirtualHost};

use super::shadow::Shadows;
use super::{Draft, Drafts, Entry};

/// A virtual host with what it was made of and what was said about it.
#[derive(Debug)]
pub(crate) struct Merged {
    pattern: HostPattern,
    parts: SmallVec<[Part; 1]>,
    https_redirect: Option<Box<Origin>>,
    /// `None` if nothing applies to the host.
    pub host: Option<Arc<VirtualHost>>,
    /// Set when it is known.
    pub digest: Option<Digest>,
    findings: Box<[Finding]>,
}

/// One VirtualService through one server.
#[derive(Debug)]
struct Part {
    server: u32,
    gateway: u32,
    branches: Arc<Branches>,
    /// What became of each branch; `None` if all take part.
    fates: Option<Box<[Fate]>>,
}

/// What became of a branch, the better the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It does not apply.
    Elsewhere,
    /// It stands behind one that takes every request.
    Cut,
    Served,
}

pub(super) struct Merge<'m, 'a, 'c> {
    gateways: &'m Gateways<'a>,
    services: &'m Services<'a>,
    kept: &'m mut [Kept],
    translator: &'m mut Translator<'a, 'c>,
    /// The best fate of each branch, of the VirtualServices that have one not served somewhere.
    fates: BTreeMap<u32, Vec<Fate>>,
    /// Whether all branches of a VirtualService are served by one of its virtual hosts.
    whole: Vec<bool>,
    shadows: Shadows,
}

/// The routes of one virtual host under way.
#[derive(Default)]
struct Routes {
    routes: Vec<Arc<Route>>,
    catch_alls: Vec<Arc<Route>>,
    /// Branches that are there already, through another server.
    seen: HashSet<(u32, usize)>,
}

impl<'m, 'a, 'c> Merge<'m, 'a, 'c> {
    pub(super) fn new(
        gateways: &'m Gateways<'a>,
        services: &'m Services<'a>,
        kept: &'m mut [Kept],
        translator: &'m mut Translator<'a, 'c>,
    ) -> Self {
        Self {
            gateways,
            services,
            kept,
            translator,
            fates: BTreeMap::new(),
            whole: vec![false; services.bound.len()],
            shadows: Shadows::default(),
        }
    }

    /// The virtual hosts of one socket.
    pub(super) fn socket(
        &mut self,
        mut drafts: Drafts,
        declared_port: u16,
        before: Vhosts,
    ) -> Vhosts {
        let mut hosts: Vec<(HostPattern, Draft, Option<Merged>)> = Vec::with_capacity(drafts.len());
        let mut is_same = true;
        for merged in before.merged {
            match drafts.remove_entry(&merged.pattern) {
                Some((pattern, draft)) => hosts.push((pattern, draft, Some(merged))),
                None => is_same = false,
            }
        }
        is_same &= drafts.is_empty();
        hosts.extend(
            drafts
                .into_iter()
                .map(|(pattern, draft)| (pattern, draft, None)),
        );
        // Most are in the order of last time, which this sort makes use of.
        hosts.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut after = Vhosts {
            merged: Vec::with_capacity(hosts.len()),
            index: before.index,
        };
        for (pattern, draft, known) in hosts {
            let was_served = known.as_ref().map(|known| known.host.is_some());
            let merged = self.merged(pattern, draft, declared_port, known);
            is_same &= was_served == Some(merged.host.is_some());
            after.merged.push(merged);
        }
        if !is_same {
            after.index();
        }
        after
    }

    fn merged(
        &mut self,
        pattern: HostPattern,
        mut draft: Draft,
        declared_port: u16,
        known: Option<Merged>,
    ) -> Merged {
        draft
            .entries
            .sort_by_key(|entry| (entry.fenced, entry.server, entry.service));
        let branches: SmallVec<[Arc<Branches>; 1]> = draft
            .entries
            .iter()
            .map(|entry| self.branches(entry))
            .collect();
        let merged = match known {
            Some(known) if known.is_of(&draft, &branches) => known,
            _ => self.merge(pattern, &mut draft, &branches, declared_port),
        };
        for (entry, part) in draft.entries.iter().zip(&merged.parts) {
            self.note(entry.service, part.fates.as_deref());
        }
        self.translator
            .findings()
            .extend_from_slice(&merged.findings);
        merged
    }

    fn merge(
        &mut self,
        pattern: HostPattern,
        draft: &mut Draft,
        branches: &[Arc<Branches>],
        declared_port: u16,
    ) -> Merged {
        let mut name_port = declared_port;
        let first = draft.entries.first();
        if let Some(server) = first.and_then(|entry| self.server(entry)) {
            name_port = server.declared_port;
        }
        let mut routes = Routes::default();
        let mut parts = SmallVec::with_capacity(branches.len());
        let is_alone = branches.len() == 1;
        for (entry, branches) in draft.entries.iter().zip(branches) {
            let fates = self
                .server(entry)
                .and_then(|server| routes.add(entry, branches, server, is_alone));
            parts.push(Part {
                server: entry.server,
                gateway: entry.gateway,
                branches: branches.clone(),
                fates,
            });
        }
        let https_redirect = draft.https_redirect.take();
        let Routes {
            mut routes,
            mut catch_alls,
            ..
        } = routes;
        routes.append(&mut catch_alls);
        let mut findings = Findings::new();
        self.shadows.look(&pattern, &routes, &mut findings);
        // A host to which nothing applies is unknown: a wildcard may still take its requests.
        let is_served = !routes.is_empty() || https_redirect.is_some();
        let host = is_served.then(|| {
            Arc::new(VirtualHost {
                name: format!("{pattern}:{name_port}").into(),
                host: pattern.clone(),
                paths: PathIndex::build(routes.iter().map(|route| &route.uri)),
                routes: routes.into(),
                https_redirect: https_redirect.as_deref().cloned(),
                fence: None,
            })
        });
        Merged {
            pattern,
            parts,
            https_redirect,
            host,
            digest: None,
            findings: findings.into(),
        }
    }

    fn server(&self, entry: &Entry) -> Option<&'m Server<'a>> {
        self.gateways.servers.get(entry.server as usize)
    }

    /// The branches of an entry's VirtualService for the port of its server.
    fn branches(&mut self, entry: &Entry) -> Arc<Branches> {
        let bound = self.services.bound.get(entry.service as usize);
        let (Some(server), Some(bound)) = (self.server(entry), bound) else {
            return Arc::default();
        };
        let Some(kept) = self.kept.get_mut(bound.index) else {
            return Arc::default();
        };
        let port = server.declared_port;
        let place = kept.branches.iter().position(|kept| kept.port == port);
        let known = place.and_then(|place| kept.branches.get(place));
        if let Some(known) = known.filter(|known| known.is_current) {
            return known.branches.clone();
        }
        let known = place.map(|place| kept.branches.swap_remove(place).branches);
        let branches = self.translator.branches(bound, port, known);
        kept.branches.push(KeptBranches {
            port,
            branches: branches.clone(),
            is_current: true,
        });
        branches
    }

    /// Notes what one virtual host made of a VirtualService.
    fn note(&mut self, service: u32, fates: Option<&[Fate]>) {
        match fates {
            None => {
                if let Some(whole) = self.whole.get_mut(service as usize) {
                    *whole = true;
                }
            }
            Some(fates) => {
                let best = self.fates.entry(service).or_default();
                best.resize(fates.len(), Fate::Elsewhere);
                for (best, fate) in best.iter_mut().zip(fates) {
                    *best = (*best).max(*fate);
                }
            }
        }
    }

    /// Reports every match that no virtual host took.
    pub(super) fn report(self) {
        for (service, fates) in &self.fates {
            let index = *service as usize;
            if self.whole.get(index) == Some(&true) {
                continue;
            }
            let bound = self.services.bound.get(index);
            let kept = bound.and_then(|bound| self.kept.get(bound.index));
            // Those of any port: that there are these branches does not depend on it.
            let Some(kept) = kept.and_then(|kept| kept.branches.last()) else {
                continue;
            };
            for (branch, fate) in kept.branches.list.iter().zip(fates) {
                if *fate != Fate::Served {
                    let finding = explain(branch, *fate == Fate::Cut);
                    self.translator.findings().push(finding);
                }
            }
        }
    }
}

impl Merged {
    /// Whether this is what it was merged to.
    pub(crate) fn is_host(&self, host: &Arc<VirtualHost>) -> bool {
        self.host.as_ref().is_some_and(|own| Arc::ptr_eq(own, host))
    }

    /// Whether merging again would give the same.
    fn is_of(&self, draft: &Draft, branches: &[Arc<Branches>]) -> bool {
        self.parts.len() == branches.len()
            && self.https_redirect == draft.https_redirect
            && self.parts.iter().zip(&draft.entries).zip(branches).all(
                |((part, entry), branches)| {
                    part.server == entry.server
                        && part.gateway == entry.gateway
                        && Arc::ptr_eq(&part.branches, branches)
                },
            )
    }
}

impl Routes {
    /// Adds what applies of a VirtualService through a server; what became of each branch, if not
    /// all take part.
    fn add(
        &mut self,
        entry: &Entry,
        branches: &Branches,
        server: &Server<'_>,
        is_alone: bool,
    ) -> Option<Box<[Fate]>> {
        let mut fates = Vec::with_capacity(branches.list.len());
        let mut is_cut = false;
        self.routes.reserve(branches.list.len());
        for (index, branch) in branches.list.iter().enumerate() {
            let fate = match branch.applies(entry.gateway as usize, server.declared_port) {
                false => Fate::Elsewhere,
                true if is_cut => Fate::Cut,
                true => Fate::Served,
            };
            fates.push(fate);
            if fate != Fate::Served {
                continue;
            }
            is_cut = branch.catch_all;
            if is_alone || self.seen.insert((entry.service, index)) {
                self.push(branch, server);
            }
        }
        let is_whole = fates.iter().all(|fate| *fate == Fate::Served);
        (!is_whole).then(|| fates.into())
    }

    fn push(&mut self, branch: &Branch, server: &Server<'_>) {
        let mut route = branch.route.clone();
        if let Some(fence) = &server.fence {
            Arc::make_mut(&mut route).action = Action::Fenced(fence.clone()).into();
        }
        match branch.catch_all {
            true => self.catch_alls.push(route),
            false => self.routes.push(route),
        }
    }
}

/// Why a match takes part in no virtual host.
fn explain(branch: &Branch, is_cut: bool) -> Finding {
    let foreign = branch.limits.as_ref().and_then(|limits| limits.foreign);
    let finding = match (foreign, is_cut) {
        (_, true) => Finding::new(
            Code::UNREACHABLE_RULE,
            "an earlier rule of this object matches every request, so this is never reached",
        )
        .hint("move the rule that matches everything to the end"),
        (Some(reason), false) => Finding::new(Code::NOT_FOR_THIS_GATEWAY, reason),
        (None, false) => Finding::new(Code::NOT_FOR_THIS_GATEWAY, elsewhere(branch)),
    };
    finding
        .at(&branch.route.origin)
        .of(&branch.route.object)
        .path(branch.printed_path())
}

fn elsewhere(branch: &Branch) -> String {
    match branch.limits.as_ref().and_then(|limits| limits.port) {
        Some(port) => {
            format!("no server that carries a host of this object declares the port {port}")
        }
        None => "its `gateways` are not those through which this object is served".to_owned(),
    }
}
