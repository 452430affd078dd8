//! What a request needs from the slow flow, behind one pointer: a plan, and the state of its
//! clusters and limits.
//!
//! `server` calls [`Upstreams::publish`] with each new endpoint table and [`Upstreams::serve`]
//! with each new plan, in this order, so that the clusters a plan adds have their endpoints
//! when its first request comes. Requests see neither: they pin the [`Serving`] they started with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::plan::{
    Cluster, ClusterEndpoints, ClusterId, EndpointTable, LimitId, PlacedLimit, Plan, Resolution,
};
use crate::policy::rate_limit::state::{LimitTotals, Limiter, Limiters};

use super::ClusterState;
use super::dial::{Dialer, Locals};
use super::dns::{DnsOptions, Names};
use super::grpc::GrpcCaller;
use super::membership::{Membership, literal};
use super::outcall::{ClusterCaller, Outcalls};
use super::probe::{Probes, Target, Totals};
use super::store::RedisStore;
use super::sweep::{Event, sweep};
use super::warmup;

/// Requests of policies' own that may run at once.
const OUTCALLS: usize = 1024;

/// A plan with the live state of each of its clusters and limits. A request pins one and keeps it.
#[derive(Debug, Default)]
pub struct Serving {
    pub plan: Arc<Plan>,
    /// Indexed by [`ClusterId`].
    clusters: Vec<Option<Arc<ClusterState>>>,
    /// Indexed by [`LimitId`].
    limiters: Box<[Arc<Limiter>]>,
    /// Of limits that a service counts; indexed by [`LimitId`], and empty if there are none.
    services: Box<[Option<Arc<GrpcCaller>>]>,
    /// Of limits whose buckets are shared; indexed by [`LimitId`], and empty if there are none.
    stores: Box<[Option<Arc<RedisStore>>]>,
    outcalls: Option<Arc<Outcalls>>,
}

/// All live clusters by name, across plans. Dropping it ends the asking of names.
#[derive(Debug)]
pub struct Upstreams {
    live: Arc<Mutex<Live>>,
    outcalls: Arc<Outcalls>,
}

/// Touched by the slow flow alone: a request never waits for this lock.
#[derive(Debug)]
pub(super) struct Live {
    /// Every cluster that the last plan names or that a request still holds.
    states: HashMap<Arc<str>, Weak<ClusterState>>,
    /// Those of the last plan.
    current: Vec<Arc<ClusterState>>,
    /// The last table, kept because it may run ahead of the plan.
    table: HashMap<Arc<str>, Arc<ClusterEndpoints>>,
    names: Names,
    probes: Probes,
    limiters: Limiters,
    /// Of the last plan, by cluster.
    services: HashMap<Arc<str>, Arc<GrpcCaller>>,
    /// Of the last plan, by URL.
    stores: HashMap<Arc<str>, Arc<RedisStore>>,
    /// Given to each new cluster.
    events: UnboundedSender<Event>,
    dialer: Arc<Dialer>,
    runtime: Handle,
}

impl Serving {
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<ClusterState>> {
        self.clusters.get(id.0 as usize)?.as_ref()
    }

    /// A policy's buckets.
    pub fn limiter(&self, id: LimitId) -> Option<&Arc<Limiter>> {
        self.limiters.get(id.0 as usize)
    }

    /// The service that counts for a policy.
    pub fn service(&self, id: LimitId) -> Option<&Arc<GrpcCaller>> {
        self.services.get(id.0 as usize)?.as_ref()
    }

    /// Where the buckets of a policy stand.
    pub fn store(&self, id: LimitId) -> Option<&Arc<RedisStore>> {
        self.stores.get(id.0 as usize)?.as_ref()
    }

    /// A cluster, for requests of policies' own.
    pub fn caller(&self, id: ClusterId) -> Option<ClusterCaller> {
        Some(ClusterCaller {
            state: self.cluster(id)?.clone(),
            outcalls: self.outcalls.clone()?,
        })
    }
}

impl Upstreams {
    /// Names are asked, endpoints probed, and the ejected given back to traffic, on `runtime`.
    pub fn new(dns: DnsOptions, runtime: Handle) -> Arc<Self> {
        Self::from(Locals::default(), dns, runtime)
    }

    /// The same, connecting from these addresses where it is not a request's connection.
    pub fn from(locals: Locals, dns: DnsOptions, runtime: Handle) -> Arc<Self> {
        let outcalls = Outcalls::new(OUTCALLS, &locals);
        let (events, ejected) = unbounded_channel();
        let live = Arc::new_cyclic(|this: &Weak<Mutex<Live>>| {
            runtime.spawn(sweep(this.clone(), ejected));
            let this = this.clone();
            let dialer = Arc::new(Dialer::new(locals));
            let probes = Probes::new(runtime.clone(), events.clone(), dialer.clone());
            let names = Names::new(dns, runtime.clone(), move |name| {
                if let Some(live) = this.upgrade() {
                    lock(&live).answered(name);
                }
            });
            Mutex::new(Live {
                states: HashMap::new(),
                current: Vec::new(),
                table: HashMap::new(),
                names,
                probes,
                limiters: Limiters::default(),
                services: HashMap::new(),
                stores: HashMap::new(),
                events,
                dialer,
                runtime: runtime.clone(),
            })
        });
        Arc::new(Self { live, outcalls })
    }

    /// Takes a new endpoint table: each cluster whose entry changed gets a new snapshot, the
    /// names it is resolved from are asked from now on, and others no longer.
    ///
    /// A cluster the table does not name any more keeps what it has, for the requests of the
    /// plan that still names it.
    pub fn publish(&self, table: &EndpointTable) {
        let mut live = lock(&self.live);
        let gone: Vec<_> = live
            .table
            .keys()
            .filter(|cluster| !table.clusters.contains_key(*cluster))
            .cloned()
            .collect();
        for (cluster, endpoints) in &table.clusters {
            live.publish(cluster, endpoints);
        }
        for cluster in gone {
            live.withdraw(&cluster);
        }
    }

    /// Pairs a plan with the state of its clusters and limits. State is kept by name; what no plan
    /// names any more ends with the last request that holds it.
    pub fn serve(&self, plan: Arc<Plan>) -> Arc<Serving> {
        let mut live = lock(&self.live);
        let clusters: Vec<_> = plan
            .clusters
            .slots()
            .iter()
            .map(|slot| slot.as_ref().map(|definition| live.state(definition)))
            .collect();
        live.current = clusters.iter().flatten().cloned().collect();
        live.states.retain(|_, state| state.strong_count() > 0);
        let limits = plan.limits.iter().map(|limit| &limit.policy);
        let limiters = live.limiters.of(limits);
        let services = live.services(&plan, &clusters);
        let stores = live.stores(&plan);
        let named = plan.clusters.iter().map(|cluster| &cluster.name);
        live.probes.retain(&named.collect());
        Arc::new(Serving {
            plan,
            clusters,
            limiters,
            services,
            stores,
            outcalls: Some(self.outcalls.clone()),
        })
    }

    /// What became of requests under the limits of the last plan.
    pub(super) fn rates(&self) -> LimitTotals {
        lock(&self.live).limiters.totals()
    }

    /// How often those who count for limits of the last plan could not be asked, by policy.
    pub(super) fn failures(&self) -> BTreeMap<Arc<str>, u64> {
        lock(&self.live).limiters.failures()
    }

    /// Bytes that the buckets of the last plan's limits take.
    pub(super) fn bucket_bytes(&self) -> BTreeMap<(Arc<str>, usize), usize> {
        lock(&self.live).limiters.bytes()
    }

    /// The clusters of the last plan.
    pub fn clusters(&self) -> Vec<Arc<ClusterState>> {
        lock(&self.live).current.clone()
    }

    /// How many probes passed and failed.
    pub(super) fn probe_totals(&self) -> Arc<Totals> {
        lock(&self.live).probes.totals()
    }

    /// Returns when every published name was asked once, or after `limit`. Between `publish`
    /// and `serve` it spares the first requests of a new cluster a 503.
    pub async fn warm(&self, limit: Duration) {
        let names = lock(&self.live).names.all();
        let asked = async {
            for name in names {
                name.asked().await;
            }
        };
        // The limit is the answer: what is not known by then is not waited for.
        let _ = tokio::time::timeout(limit, asked).await;
    }
}

impl Live {
    /// A cluster that a plan or a request holds.
    pub(super) fn cluster(&self, name: &str) -> Option<Arc<ClusterState>> {
        self.states.get(name).and_then(Weak::upgrade)
    }

    fn state(&mut self, definition: &Arc<Cluster>) -> Arc<ClusterState> {
        if let Some(state) = self.cluster(&definition.name) {
            state.define(definition);
            self.probe(&state);
            warmup::drive(&state, &self.runtime);
            return state;
        }
        let (events, dialer) = (self.events.clone(), self.dialer.clone());
        let state = Arc::new(ClusterState::new(definition.clone(), events, dialer));
        self.states
            .insert(definition.name.clone(), Arc::downgrade(&state));
        self.refresh(&definition.name);
        state
    }

    /// The services of a plan's limits. Their connections outlive the plan.
    fn services(
        &mut self,
        plan: &Plan,
        clusters: &[Option<Arc<ClusterState>>],
    ) -> Box<[Option<Arc<GrpcCaller>>]> {
        let before = std::mem::take(&mut self.services);
        if plan.limits.iter().all(|limit| limit.service.is_none()) {
            return Box::default();
        }
        let mut of_limit = |limit: &PlacedLimit| {
            let state = clusters.get(limit.service?.0 as usize)?.as_ref()?;
            let service = limit.policy.service()?;
            let known = self.services.get(&service.cluster);
            let known = known.or_else(|| before.get(&service.cluster)).cloned();
            let known = known.filter(|known| known.is_of(state));
            let caller = known.unwrap_or_else(|| {
                GrpcCaller::new(state.clone(), self.dialer.clone(), self.runtime.clone())
            });
            caller.prepare(&service.authority);
            self.services
                .insert(service.cluster.clone(), caller.clone());
            Some(caller)
        };
        plan.limits.iter().map(&mut of_limit).collect()
    }

    /// Where a plan's shared buckets stand. The connections outlive the plan.
    fn stores(&mut self, plan: &Plan) -> Box<[Option<Arc<RedisStore>>]> {
        let before = std::mem::take(&mut self.stores);
        if plan
            .limits
            .iter()
            .all(|limit| limit.policy.store().is_none())
        {
            return Box::default();
        }
        let mut of_limit = |limit: &PlacedLimit| {
            let url = &limit.policy.store()?.url;
            let known = self.stores.get(url).or_else(|| before.get(url)).cloned();
            let store = known.or_else(|| RedisStore::new(url, self.runtime.clone()))?;
            store.prepare(&self.runtime);
            self.stores.insert(url.clone(), store.clone());
            Some(store)
        };
        plan.limits.iter().map(&mut of_limit).collect()
    }

    fn publish(&mut self, cluster: &Arc<str>, endpoints: &Arc<ClusterEndpoints>) {
        let known = self.table.insert(cluster.clone(), endpoints.clone());
        if known
            .as_ref()
            .is_some_and(|known| known.digest == endpoints.digest)
        {
            return;
        }
        let wanted = names(endpoints);
        for name in &wanted {
            self.names.follow(name, cluster);
        }
        for name in known.iter().flat_map(|known| names(known)) {
            if !wanted.contains(&name) {
                self.names.forget(&name, cluster);
            }
        }
        self.refresh(cluster);
    }

    fn withdraw(&mut self, cluster: &str) {
        for name in self
            .table
            .remove(cluster)
            .iter()
            .flat_map(|known| names(known))
        {
            self.names.forget(&name, cluster);
        }
    }

    fn answered(&mut self, name: &str) {
        for cluster in self.names.clusters(name) {
            self.refresh(&cluster);
        }
    }

    /// Publishes to a cluster, if it lives, who belongs to it now.
    fn refresh(&mut self, cluster: &str) {
        let state = self.cluster(cluster);
        if let (Some(state), Some(endpoints)) = (state, self.table.get(cluster)) {
            state.publish(Membership::new(endpoints, |name| self.names.get(name)));
            self.probe(&state);
            warmup::drive(&state, &self.runtime);
        }
    }

    /// Probes exactly the members of a cluster, and tells it what is known about them.
    fn probe(&mut self, state: &ClusterState) {
        let definition = state.definition.load();
        let check = definition.health_check.as_ref();
        let probe = check.map(|check| &check.probe);
        let addresses = state.addresses().into_iter();
        self.probes.watch(&definition.name, probe, addresses);
        self.heed_probes(&definition.name);
    }

    /// The clusters that watch a probed target.
    pub(super) fn watchers(&self, target: &Target) -> Vec<Arc<str>> {
        self.probes.clusters(target).cloned().collect()
    }

    /// Tells a cluster what its probes found.
    pub(super) fn heed_probes(&self, cluster: &str) {
        let Some(state) = self.cluster(cluster) else {
            return;
        };
        let definition = state.definition.load();
        let check = definition.health_check.as_ref();
        state.heed_probes(|addr| self.probes.failure(addr, &check?.probe));
    }
}

/// The names to ask for a cluster.
fn names(endpoints: &ClusterEndpoints) -> HashSet<Arc<str>> {
    match &endpoints.resolution {
        Resolution::Static(_) => HashSet::new(),
        Resolution::Dns { names, .. } => names
            .iter()
            .filter(|entry| literal(&entry.name).is_none())
            .map(|entry| entry.name.clone())
            .collect(),
    }
}

/// A panic under the lock leaves every map whole: each step replaces one entry.
pub(super) fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
