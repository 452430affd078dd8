//! What a rule has happen to its requests beside forwarding them, each with its place.

use std::sync::Arc;

use crate::base::{Code, Finding, Findings, Origin};
use crate::model::{FieldPath, Object};
use crate::plan::{Placed, Policies};

use super::{Rule, Translator, cors, fault};

impl Rule<'_> {
    /// The object whose rule of this index writes a field.
    pub(super) fn writer_of(&self, field: &str) -> (&Object, usize) {
        let inherited = self.inherited.as_ref();
        match inherited.filter(|given| given.fields.contains(&field)) {
            Some(given) => (given.object, given.index),
            None => (self.object, self.index),
        }
    }

    /// Where a field of the rule is written.
    fn origin_of(&self, field: &str) -> Origin {
        let (object, index) = self.writer_of(field);
        object.origin_of(&FieldPath::spec().field("http").index(index).field(field))
    }
}

impl Translator<'_, '_> {
    /// The policies of a rule that forwards.
    ///
    /// # Errors
    /// One sentence that says which value is wrong.
    pub(super) fn policies(&mut self, rule: &Rule<'_>, port: u16) -> Result<Policies, String> {
        let mut policies = Policies {
            mirrors: self.mirrors(rule, port)?,
            ..Policies::default()
        };
        if let Some(written) = rule.spec.fault.as_deref()
            && let Some(policy) = fault::compile(written)?
        {
            let origin = rule.origin_of("fault");
            policies.fault = Some(Arc::new(Placed { policy, origin }));
        }
        if let Some(written) = rule.spec.cors_policy.as_deref() {
            let policy = cors::compile(written, self.patterns)?;
            let origin = rule.origin_of("corsPolicy");
            policies.cors = Some(Arc::new(Placed { policy, origin }));
        }
        Ok(policies)
    }
}

/// Reports what of a rule's policies has no effect.
pub(super) fn report(rule: &Rule<'_>, printed: &str, findings: &mut Findings) {
    let mut inert = |field: &str, below: &str, message: &str, hint: &str| {
        findings.push(
            Finding::new(Code::INERT_FIELD, message)
                .at(&rule.origin_of(field))
                .of(&rule.object.key)
                .path(format!("{printed}.{field}{below}"))
                .hint(hint),
        );
    };
    if let Some(written) = rule.spec.fault.as_deref() {
        for (below, message) in fault::inert(written) {
            inert(
                "fault",
                &format!(".{below}"),
                message,
                "set it, or remove the fault",
            );
        }
    }
    if rule.spec.redirect.is_none() && rule.spec.direct_response.is_none() {
        return;
    }
    for (field, is_set) in [
        ("fault", rule.spec.fault.is_some()),
        ("corsPolicy", rule.spec.cors_policy.is_some()),
        ("mirror", rule.spec.mirror.is_some()),
        ("mirrors", !rule.spec.mirrors.is_empty()),
    ] {
        if is_set {
            let message = format!(
                "`{field}` has no effect on a rule that answers by itself, as in Istio's proxies"
            );
            inert(field, "", &message, "remove it to accept this");
        }
    }
}
