//! Destinations that do not exist, and what a user most likely meant by them.
//!
//! Called by the registry when a reference cannot be resolved.

use std::sync::Arc;

use crate::base::{Code, Finding};

use super::name;
use super::rule::Rule;
use super::service::Service;
use super::{DestinationRef, Question, Registry};

/// What is missing.
pub(super) struct Missing {
    /// What Istio would call the cluster.
    pub name: Arc<str>,
    /// One sentence.
    pub reason: String,
    what: What,
}

enum What {
    Host(String),
    /// With the ports there are, as text.
    Port {
        ports: String,
    },
    /// The port was left out and the gateway's does not exist on the service.
    Ambiguous {
        ports: String,
    },
    Subset {
        host: Arc<str>,
        name: String,
        rule: Option<String>,
        known: Vec<String>,
    },
}

pub(super) fn host(host: &str, question: &Question<'_>) -> Box<Missing> {
    let port = question.port.unwrap_or(u32::from(question.gateway_port));
    Box::new(Missing {
        name: name::cluster_name(host, port, question.subset),
        reason: format!("no Service or ServiceEntry has the host `{host}`"),
        what: What::Host(host.to_owned()),
    })
}

pub(super) fn port(service: &Service<'_>, number: u32, question: &Question<'_>) -> Box<Missing> {
    let host = &service.host;
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| port.number.to_string())
        .collect();
    let ports = ports.join(", ");
    let ambiguous = question.port.is_none() && service.ports.len() > 1;
    Box::new(Missing {
        name: name::cluster_name(host, number, question.subset),
        reason: if ambiguous {
            format!(
                "`{host}` has several ports, the destination names none, and the gateway's port \
                 {number} is not one of them"
            )
        } else {
            format!("`{host}` has no port {number}")
        },
        what: if ambiguous {
            What::Ambiguous { ports }
        } else {
            What::Port { ports }
        },
    })
}

pub(super) fn subset(
    service: &Service<'_>,
    port: u32,
    subset: &str,
    rule: Option<&Rule<'_>>,
) -> Box<Missing> {
    let mut known: Vec<String> = rule
        .into_iter()
        .flat_map(|rule| rule.subsets.keys())
        .map(|name| (*name).to_owned())
        .collect();
    known.sort_unstable();
    let rule = rule.map(|rule| format!("{} ({})", rule.object.key, rule.object.origin));
    Box::new(Missing {
        name: name::cluster_name(&service.host, port, Some(subset)),
        reason: format!(
            "no DestinationRule defines the subset `{subset}` of `{}`",
            service.host
        ),
        what: What::Subset {
            host: service.host.clone(),
            name: subset.to_owned(),
            rule,
            known,
        },
    })
}

impl Registry<'_> {
    /// The finding for a missing destination, with the best hint there is.
    pub(super) fn explain(&mut self, missing: &Missing, reference: &DestinationRef<'_>) -> Finding {
        let code = match missing.what {
            What::Ambiguous { .. } => Code::AMBIGUOUS_PORT,
            _ => Code::REFERENCED_RESOURCE_NOT_FOUND,
        };
        let hint = match &missing.what {
            What::Host(host) => self.host_hint(host, reference),
            What::Port { ports } if ports.is_empty() => "the service has no ports".to_owned(),
            What::Port { ports } => {
                format!("destination.port is the service's port, not its targetPort: {ports}")
            }
            What::Ambiguous { ports } => format!("add port.number, one of: {ports}"),
            What::Subset {
                host,
                name,
                rule,
                known,
            } => self.subset_hint(host, name, rule.as_deref(), known),
        };
        Finding::new(
            code,
            format!("{}; {}", missing.reason, reference.consequence),
        )
        .at(reference.origin)
        .of(reference.object)
        .path(reference.path.to_string())
        .hint(hint)
    }

    fn host_hint(&mut self, host: &str, reference: &DestinationRef<'_>) -> String {
        let mut hint = String::new();
        if name::is_short(reference.host) {
            hint = format!(
                "`{}` was expanded to `{host}`, in the namespace of {}",
                reference.host, reference.object
            );
        }
        let mut add = |text: String| {
            if !hint.is_empty() {
                hint.push_str("; ");
            }
            hint.push_str(&text);
        };
        if let Some(object) = self.services.hidden(host) {
            add(format!(
                "{} ({}) has it, but its exportTo hides it from the gateway's namespace `{}`",
                object.key, object.origin, self.options.namespace
            ));
            return hint;
        }
        if let Some(full) = self.completed(host) {
            add(format!(
                "a name with a dot is taken literally: write `{full}`"
            ));
            return hint;
        }
        if let Some(wildcard) = self.wildcard_over(host) {
            add(format!(
                "`{wildcard}` covers it, but a destination must name `{wildcard}` itself"
            ));
            return hint;
        }
        let hosts = self.services.iter().map(|service| &*service.host);
        if let Some(near) = self.nearest.find(host, hosts) {
            add(format!("did you mean `{near}`?"));
        } else if let Some(elsewhere) = self.elsewhere(host) {
            add(format!("did you mean `{elsewhere}`?"));
        } else {
            add("add its Service or a ServiceEntry to the input".to_owned());
        }
        hint
    }

    /// The known host that `reviews.prod` or `reviews.prod.svc` was meant for.
    fn completed(&self, host: &str) -> Option<String> {
        let domain = &self.options.domain;
        [format!("{host}.svc.{domain}"), format!("{host}.{domain}")]
            .into_iter()
            .find(|full| self.services.find(full).is_some())
    }

    fn wildcard_over(&self, host: &str) -> Option<String> {
        host.match_indices('.')
            .filter_map(|(at, _)| host.get(at..))
            .map(|suffix| format!("*{suffix}"))
            .find(|wildcard| self.services.find(wildcard).is_some())
    }

    /// A Service of the same name in another namespace.
    fn elsewhere(&self, host: &str) -> Option<&str> {
        let name = host.strip_suffix(&format!(".svc.{}", self.options.domain))?;
        let name = name.split('.').next()?;
        let mut services = self.services.iter();
        let found = services.find(|service| {
            *service.name == *name && service.host.starts_with(name) && *service.host != *name
        })?;
        Some(&found.host)
    }

    fn subset_hint(
        &mut self,
        host: &str,
        subset: &str,
        rule: Option<&str>,
        known: &[String],
    ) -> String {
        let options = self.options;
        let unused = self
            .rules
            .written_for(host)
            .find(|rule| rule.subsets.contains_key(subset));
        if let Some(unused) = unused {
            return format!(
                "{} ({}) defines it, but is not the DestinationRule that holds here: only the \
                 first of the gateway's namespace, the service's and `{}` that has one for the \
                 host counts",
                unused.object.key, unused.object.origin, options.root_namespace
            );
        }
        let Some(rule) = rule else {
            return format!("add a DestinationRule for `{host}` with the subset `{subset}`");
        };
        match self.nearest.find(subset, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`? See {rule}"),
            None if known.is_empty() => format!("add the subset to {rule}"),
            None => format!("{rule} defines: {}", known.join(", ")),
        }
    }
}
