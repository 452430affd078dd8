//! What is wrong with a Compression.

use crate::base::Findings;
use crate::model::own::Compression;
use crate::model::own::compression::Levels;
use crate::model::{FieldPath, Object};
use crate::policy::compression::spec::Coding;

use super::{fault, target};

/// Checks a Compression.
pub(super) fn check(object: &Object, spec: &Compression, findings: &mut Findings) {
    target::check(object, &spec.target_ref, findings);
    let path = FieldPath::spec();
    let algorithms = spec.algorithms.iter().flatten();
    for (index, token) in algorithms.clone().enumerate() {
        let path = path.field("algorithms").index(index);
        let earlier = algorithms
            .clone()
            .take(index)
            .any(|earlier| earlier == token);
        let message = match Coding::of(token) {
            None => format!("`{token}` is no algorithm"),
            Some(_) if earlier => format!("`{token}` is named twice"),
            Some(_) => continue,
        };
        let hint = "write some of zstd, br, gzip, the best first";
        findings.push(fault(object, &path, message, hint));
    }
    for (index, text) in spec.content_types.iter().flatten().enumerate() {
        if !is_type(text) {
            let path = path.field("contentTypes").index(index);
            let message = format!("`{text}` is no media type");
            let hint = "write for example `application/json` or `text/*`, without parameters";
            findings.push(fault(object, &path, message, hint));
        }
    }
    for (coding, level) in levels(&spec.level) {
        let Some(level) = level else { continue };
        let levels = coding.levels();
        if u8::try_from(level).is_ok_and(|level| levels.contains(&level)) {
            continue;
        }
        let path = path.field("level").field(coding.token());
        let (least, most) = (levels.start(), levels.end());
        let message = format!("{level} is not from {least} to {most}");
        let hint = "higher levels are for files that are compressed once and sent often";
        findings.push(fault(object, &path, message, hint));
    }
}

/// With whose levels they are.
pub(crate) fn levels(written: &Levels) -> [(Coding, Option<u32>); 3] {
    let Levels { zstd, br, gzip } = *written;
    [
        (Coding::Zstd, zstd),
        (Coding::Brotli, br),
        (Coding::Gzip, gzip),
    ]
}

/// `type/subtype` or `type/*`.
fn is_type(text: &str) -> bool {
    let is_token = |text: &str| {
        let is_char = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
        !text.is_empty() && text.chars().all(is_char)
    };
    text.split_once('/')
        .is_some_and(|(kind, name)| is_token(kind) && (name == "*" || is_token(name)))
}
