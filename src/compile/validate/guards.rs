//! What is wrong with an AccessList or a BodyLimit.

use crate::base::{Cidr, Findings};
use crate::model::own::{AccessList, BodyLimit};
use crate::model::{FieldPath, Object};

use super::{fault, target};

/// Checks an AccessList.
pub(super) fn check_access(object: &Object, spec: &AccessList, findings: &mut Findings) {
    target::check(object, &spec.target_ref, findings);
    let path = FieldPath::spec();
    if spec.allow.is_empty() && spec.deny.is_empty() && object.issues_under(&path).next().is_none()
    {
        let hint = "write for example `allow: [10.0.0.0/8]`";
        findings.push(fault(object, &path, "nobody is allowed or denied", hint));
    }
    for (field, list) in [("allow", &spec.allow), ("deny", &spec.deny)] {
        for (index, text) in list.iter().enumerate() {
            if let Err(message) = text.parse::<Cidr>() {
                let path = path.field(field).index(index);
                findings.push(fault(
                    object,
                    &path,
                    message,
                    "write for example `10.0.0.0/8`",
                ));
            }
        }
    }
}

/// Checks a BodyLimit.
pub(super) fn check_body(object: &Object, spec: &BodyLimit, findings: &mut Findings) {
    target::check(object, &spec.target_ref, findings);
    let path = FieldPath::spec().field("maxBytes");
    if spec.max_bytes.is_none() && object.issues_under(&path).next().is_none() {
        let hint = "write for example `maxBytes: 1048576`";
        findings.push(fault(object, &path, "the limit has no number", hint));
    }
}
