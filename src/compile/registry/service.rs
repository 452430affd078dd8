//! The services a destination can name: Kubernetes Services and hosts of ServiceEntries, by host.
//!
//! Called once per load, and then for every destination.

use std::sync::Arc;

use foldhash::HashMap;

use crate::base::{Code, Finding, Findings};
use crate::compile::Options;
use crate::compile::version::Versions;
use crate::model::{FieldPath, Object, Spec, istio, kube};
use crate::plan::Fence;

use super::broken;
use super::name;
use super::port::{Port, Speech, TargetPort};

/// Kubernetes' annotation form of `exportTo`.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// A host that takes traffic.
#[derive(Debug)]
pub(super) struct Service<'a> {
    /// Full and lower case; `*.x` for a wildcard ServiceEntry.
    pub host: Arc<str>,
    /// What metrics call it: the Service's name, or the ServiceEntry's host.
    pub name: Arc<str>,
    pub object: &'a Object,
    pub ports: Vec<Port>,
    pub backing: Backing<'a>,
    /// Younger ServiceEntries of the same host and namespace, whose endpoints belong to it too.
    pub joined: Vec<Joined<'a>>,
    /// Set if the object that defines it is broken and has no earlier version.
    pub fence: Option<Arc<Fence>>,
}

impl<'a> Service<'a> {
    pub(super) fn namespace(&self) -> &Arc<str> {
        &self.object.key.namespace
    }

    /// The port of a number that carries a stream.
    pub(super) fn port(&self, number: u32) -> Option<&Port> {
        self.ports
            .iter()
            .find(|port| u32::from(port.number) == number && port.speech != Speech::Datagram)
    }
    /// Takes the endpoints of another ServiceEntry of this host, as far as Istio does: its ports
    /// are those of the oldest, and an endpoint belongs to the port of its own port's name.
    fn join(&mut self, other: Joined<'a>, broken: bool, path: &FieldPath, findings: &mut Findings) {
        let alike = match &self.backing {
            Backing::Entry(spec) => spec.resolution == other.spec.resolution,
            _ => false,
        };
        let of_namespace = self.namespace() == &other.object.key.namespace;
        let finding = |message, hint| {
            Finding::new(Code::SHADOWED, message)
                .at(&other.object.origin_of(path))
                .of(&other.object.key)
                .path(path.to_string())
                .hint(hint)
        };
        let owner = format!("{} ({})", self.object.key, self.object.origin);
        let host = &self.host;
        if !alike || !of_namespace || broken {
            findings.push(finding(
                format!("the host `{host}` already belongs to {owner}"),
                "keep the host in one object, or in ServiceEntries of one namespace and \
                 resolution; a Service, then the oldest, wins",
            ));
            return;
        }
        let is_unknown = |port: &&Port| !self.ports.iter().any(|known| known.name == port.name);
        for port in other.ports.iter().filter(is_unknown) {
            findings.push(finding(
                format!(
                    "the port `{}` of `{host}` gets no traffic here: the ports of the host are \
                     those of {owner}",
                    port.name
                ),
                "name the port there too; a further ServiceEntry adds endpoints, not ports",
            ));
        }
        self.joined.push(other);
    }
}

/// A ServiceEntry that adds endpoints to a host of an older one.
#[derive(Debug)]
pub(super) struct Joined<'a> {
    pub object: &'a Object,
    pub spec: &'a istio::ServiceEntry,
    pub ports: Vec<Port>,
}

/// What says where the endpoints are.
#[derive(Debug)]
pub(super) enum Backing<'a> {
    Kubernetes(&'a kube::Service),
    /// Another service's host.
    Alias(Arc<str>),
    Entry(&'a istio::ServiceEntry),
}

/// All services the gateway can see.
#[derive(Debug)]
pub(super) struct Services<'a> {
    list: Vec<Service<'a>>,
    by_host: HashMap<Arc<str>, usize>,
    /// Services that exist but are not exported to the gateway.
    hidden: HashMap<Arc<str>, &'a Object>,
}

impl<'a> Services<'a> {
    /// Indexes the services among the objects, which come oldest first.
    ///
    /// A Kubernetes Service owns its host before any ServiceEntry; among ServiceEntries the
    /// oldest does, and those of its namespace add their endpoints by the names of its ports.
    pub(super) fn index(
        versions: &'a Versions,
        options: &Options,
        findings: &mut Findings,
    ) -> Self {
        let mut services = Self {
            list: Vec::new(),
            by_host: HashMap::default(),
            hidden: HashMap::default(),
        };
        let fence = |object: &Object| {
            let fault = versions.damage(&object.key)?.under("spec").next()?;
            Some(broken::fence(object, fault))
        };
        for object in versions.others() {
            if let Spec::Service(spec) = &object.spec {
                services.add_kubernetes(object, spec, fence(object), options, findings);
            }
        }
        for object in versions.others() {
            if let Spec::ServiceEntry(spec) = &object.spec {
                services.add_entry(object, spec, fence(object), options, findings);
            }
        }
        services
    }

    pub(super) fn find(&self, host: &str) -> Option<(usize, &Service<'a>)> {
        let index = *self.by_host.get(host)?;
        Some((index, self.list.get(index)?))
    }

    pub(super) fn get(&self, index: usize) -> Option<&Service<'a>> {
        self.list.get(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Service<'a>> {
        self.list.iter()
    }

    /// The object of a service that exists but is not exported to the gateway.
    pub(super) fn hidden(&self, host: &str) -> Option<&'a Object> {
        self.hidden.get(host).copied()
    }

    fn add_kubernetes(
        &mut self,
        object: &'a Object,
        spec: &'a kube::Service,
        fence: Option<Arc<Fence>>,
        options: &Options,
        findings: &mut Findings,
    ) {
        let key = &object.key;
        let host: Arc<str> = name::service_host(&key.name, &key.namespace, &options.domain).into();
        let export_to = object
            .annotations
            .get(EXPORT_TO)
            .map(|text| &**text)
            .unwrap_or_default();
        let defaults = &options.service_export_to;
        if !name::exported(
            export_to.split(','),
            defaults,
            &key.namespace,
            &options.namespace,
        ) {
            self.hidden.insert(host, object);
            return;
        }
        let alias = spec.service_type.as_deref() == Some("ExternalName");
        let backing = match spec.external_name.as_deref() {
            Some(target) if alias => {
                Backing::Alias(target.trim_end_matches('.').to_ascii_lowercase().into())
            }
            _ => Backing::Kubernetes(spec),
        };
        let service = Service {
            host,
            name: key.name.clone(),
            object,
            ports: spec
                .ports
                .iter()
                .filter_map(|port| kubernetes_port(port.good()?))
                .collect(),
            backing,
            joined: Vec::new(),
            fence,
        };
        self.push(service, findings);
    }

    fn add_entry(
        &mut self,
        object: &'a Object,
        spec: &'a istio::ServiceEntry,
        fence: Option<Arc<Fence>>,
        options: &Options,
        findings: &mut Findings,
    ) {
        let export_to = spec.export_to.iter().map(String::as_str);
        let defaults = &options.service_export_to;
        let own = &object.key.namespace;
        let visible = name::exported(export_to, defaults, own, &options.namespace);
        if !visible {
            let message = format!(
                "its hosts are not exported to the gateway's namespace `{}`",
                options.namespace
            );
            findings.push(
                Finding::new(Code::NOT_FOR_THIS_GATEWAY, message)
                    .at(&object.origin)
                    .of(&object.key)
                    .path("spec.exportTo"),
            );
        }
        let ports: Vec<Port> = spec
            .ports
            .iter()
            .filter_map(|port| entry_port(port.good()?))
            .collect();
        for (position, host) in spec.hosts.iter().enumerate() {
            let host: Arc<str> = host.to_ascii_lowercase().into();
            if !visible {
                self.hidden.entry(host).or_insert(object);
                continue;
            }
            let owner = self.by_host.get(&host);
            if let Some(owner) = owner.and_then(|owner| self.list.get_mut(*owner)) {
                let path = FieldPath::spec().field("hosts").index(position);
                let joined = Joined {
                    object,
                    spec,
                    ports: ports.clone(),
                };
                owner.join(joined, fence.is_some(), &path, findings);
                continue;
            }
            let service = Service {
                name: host.clone(),
                host,
                object,
                ports: ports.clone(),
                backing: Backing::Entry(spec),
                joined: Vec::new(),
                fence: fence.clone(),
            };
            self.push(service, findings);
        }
    }

    fn push(&mut self, service: Service<'a>, findings: &mut Findings) {
        if let Some(fence) = &service.fence {
            let traffic = format!("traffic for `{}`", service.host);
            broken::report(fence, service.object, &traffic, findings);
        }
        self.by_host.insert(service.host.clone(), self.list.len());
        self.list.push(service);
    }
}

fn kubernetes_port(port: &kube::ServicePort) -> Option<Port> {
    let name = port.name.as_deref().unwrap_or_default();
    Some(Port {
        number: port.port.filter(|number| *number > 0)?,
        name: name.into(),
        speech: Speech::of_service_port(
            port.protocol.as_deref(),
            port.app_protocol.as_deref(),
            name,
        ),
        target: match &port.target_port {
            None | Some(kube::IntOrString::Int(0)) => TargetPort::Same,
            Some(kube::IntOrString::Int(number)) => TargetPort::Number(*number),
            Some(kube::IntOrString::String(name)) => TargetPort::of_text(name),
        },
    })
}

fn entry_port(port: &istio::service_entry::ServicePort) -> Option<Port> {
    let number = |number: Option<u32>| u16::try_from(number?).ok().filter(|number| *number > 0);
    Some(Port {
        number: number(port.number)?,
        name: port.name.as_deref().unwrap_or_default().into(),
        speech: Speech::of_protocol(port.protocol.as_deref().unwrap_or_default()),
        target: number(port.target_port).map_or(TargetPort::Same, TargetPort::Number),
    })
}
