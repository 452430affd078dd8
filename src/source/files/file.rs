//! One file: what it says now, or said when it could last be read.

use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use foldhash::quality::FixedState;

use crate::base::{Code, Finding, Origin, Position, clock};
use crate::model::Object;
use crate::source::contents::{self, Contents};
use crate::source::walk::{Identity, Stamp};
use crate::source::yaml::{self, KeyNames, YamlError};

use super::LoadOptions;

/// A file changed this recently may change again without its time showing it.
const SETTLED_AFTER_SECONDS: i64 = 2;

#[derive(Debug)]
pub(super) struct File {
    name: Arc<str>,
    /// As of the last read; `None` if the next look must read again.
    stamp: Option<Stamp>,
    identity: Option<Identity>,
    /// Hash of the bytes read last.
    digest: Option<u64>,
    /// What counts.
    contents: Option<Contents>,
    /// Why the newest version does not count.
    failure: Vec<Finding>,
}

/// The objects a file had and has.
type Exchange = (Vec<Arc<Object>>, Vec<Arc<Object>>);

impl File {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            name: path.to_string_lossy().into(),
            stamp: None,
            identity: None,
            digest: None,
            contents: None,
            failure: Vec::new(),
        }
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    pub(super) fn is_current(&self, stamp: &Stamp) -> bool {
        self.stamp.as_ref() == Some(stamp)
    }

    pub(super) fn contents(&self) -> Option<&Contents> {
        self.contents.as_ref()
    }

    pub(super) fn failure(&self) -> &[Finding] {
        &self.failure
    }

    pub(super) fn into_objects(self) -> Vec<Arc<Object>> {
        self.contents
            .map(|contents| contents.objects)
            .unwrap_or_default()
    }

    /// Reads the file again. `None` if its objects stay the same.
    pub(super) fn read(
        &mut self,
        path: &Path,
        options: &LoadOptions,
        keys: &mut KeyNames,
    ) -> Option<Exchange> {
        let bytes = match self.bytes(path, options.max_file_bytes) {
            Ok(bytes) => bytes,
            Err(finding) => {
                (self.stamp, self.digest) = (None, None);
                self.fail(vec![*finding]);
                return None;
            }
        };
        let digest = digest(&bytes);
        if self.digest == Some(digest) {
            return None;
        }
        self.digest = Some(digest);
        let has_objects = self
            .contents
            .as_ref()
            .is_some_and(|old| !old.objects.is_empty());
        if bytes.is_empty() && has_objects {
            // Most who write a file empty it first, and not all fill it at once.
            let finding = Finding::new(Code::INVALID_YAML, "the file is empty now")
                .at(&Origin::new(self.name.clone(), Position::default(), 0))
                .hint("remove the file if its objects are to go");
            self.fail(vec![finding]);
            return None;
        }
        let parsed = text_of(&bytes, &self.name)
            .and_then(|text| yaml::parse(text, keys).map_err(|error| self.invalid(&error)));
        let new = match parsed {
            Ok(documents) => contents::read(documents, &self.name, &options.namespace, keys),
            Err(finding) => {
                self.fail(vec![*finding]);
                return None;
            }
        };
        // An object whose `kind` or name got lost would silently take its traffic along.
        let was_whole = self.contents.as_ref().is_some_and(|old| old.lost == 0);
        let loses_objects = new.lost > 0 && was_whole && has_objects;
        if loses_objects {
            self.fail(new.findings);
            return None;
        }
        self.failure.clear();
        let added = new.objects.clone();
        let removed = self
            .contents
            .replace(new)
            .map(|old| old.objects)
            .unwrap_or_default();
        (!added.is_empty() || !removed.is_empty()).then_some((removed, added))
    }

    fn invalid(&self, error: &YamlError) -> Box<Finding> {
        let place = match error.position.column {
            0 => String::new(),
            column => format!(" (column {column})"),
        };
        let finding = Finding::new(Code::INVALID_YAML, format!("{}{place}", error.message));
        let origin = Origin::new(self.name.clone(), error.position, 0);
        Box::new(finding.at(&origin).hint(error.hint))
    }

    /// Notes why the newest version does not count.
    fn fail(&mut self, mut findings: Vec<Finding>) {
        if self.contents.is_some() {
            for finding in &mut findings {
                finding
                    .message
                    .push_str("; what the file said before stays in force");
            }
        }
        self.failure = findings;
    }

    fn bytes(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, Box<Finding>> {
        let origin = Origin::new(self.name.clone(), Position::default(), 0);
        let unreadable = |error: io::Error| Box::new(unreadable(&origin, &error));
        let mut file = fs::File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let stamp = Stamp::of(&metadata);
        self.identity = Some(stamp.identity);
        let mut bytes = Vec::new();
        if stamp.length <= limit {
            file.by_ref()
                .take(limit.saturating_add(1))
                .read_to_end(&mut bytes)
                .map_err(unreadable)?;
        }
        if stamp.length > limit || u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
            let message = format!(
                "the file has {} bytes, more than the {limit} that are read",
                stamp.length
            );
            let finding = Finding::new(Code::FILE_TOO_LARGE, message).at(&origin);
            return Err(Box::new(finding.hint("split it into several files")));
        }
        let now = i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX);
        let is_settled = now.saturating_sub(stamp.age_mark()) > SETTLED_AFTER_SECONDS;
        self.stamp = is_settled.then_some(stamp);
        Ok(bytes)
    }
}

/// A path that cannot be looked into.
pub(super) fn unreadable(origin: &Origin, error: &io::Error) -> Finding {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "correct the path, or put the file there",
        io::ErrorKind::PermissionDenied => "let the gateway's user read it",
        _ => "mend or remove it",
    };
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission is denied".to_owned(),
        _ => error.to_string(),
    };
    Finding::new(
        Code::UNREADABLE_FILE,
        format!("cannot read `{}`: {reason}", origin.file),
    )
    .at(origin)
    .hint(hint)
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// The bytes as text, without a byte order mark.
fn text_of<'b>(bytes: &'b [u8], name: &Arc<str>) -> Result<&'b str, Box<Finding>> {
    let place = |offset: usize, what: String, hint: &str| {
        let before = bytes.get(..offset).unwrap_or_default();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let line = u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1);
        let origin = Origin::new(name.clone(), Position { line, column: 1 }, 0);
        let finding = Finding::new(Code::INVALID_YAML, format!("{what} at byte {offset}"));
        Box::new(finding.at(&origin).hint(hint))
    };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let offset = error.valid_up_to();
            let byte = bytes.get(offset).copied().unwrap_or_default();
            let what = format!("the file is not UTF-8 text: 0x{byte:02x}");
            return Err(place(
                offset,
                what,
                "save it as UTF-8, or keep it out of the folder",
            ));
        }
    };
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        let what = "the file is binary: 0x00".to_owned();
        return Err(place(offset, what, "keep it out of the folder"));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
