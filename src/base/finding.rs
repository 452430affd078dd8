//! What Pingress has to say about what a user wrote.
//!
//! A finding has a stable code, a severity, the line it is about, one sentence and
//! a hint. `check`, the log, the admin endpoint and the tests all print the same ones.

use std::fmt;

use super::{ObjectKey, Origin};

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Info,
    /// Served, but probably not as the writer meant.
    Warning,
    /// Something the user wrote is not honoured.
    Error,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stable finding code with its usual severity: Istio's analyzer code where the
/// condition is the same (`IST0101`), otherwise ours (`PGR…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    pub id: &'static str,
    /// Short name in words, as Istio's analyzers print it.
    pub name: &'static str,
    pub severity: Severity,
}

impl Code {
    const fn error(id: &'static str, name: &'static str) -> Self {
        Self {
            id,
            name,
            severity: Severity::Error,
        }
    }
    const fn warning(id: &'static str, name: &'static str) -> Self {
        Self {
            id,
            name,
            severity: Severity::Warning,
        }
    }
    const fn info(id: &'static str, name: &'static str) -> Self {
        Self {
            id,
            name,
            severity: Severity::Info,
        }
    }

    // Istio's analyzer codes.
    pub const REFERENCED_RESOURCE_NOT_FOUND: Self =
        Self::error("IST0101", "ReferencedResourceNotFound");
    pub const SCHEMA_VALIDATION: Self = Self::error("IST0106", "SchemaValidationError");
    pub const UNREACHABLE_RULE: Self = Self::warning("IST0130", "VirtualServiceUnreachableRule");
    pub const INEFFECTIVE_MATCH: Self = Self::info("IST0131", "VirtualServiceIneffectiveMatch");
    pub const HOST_NOT_FOUND_IN_GATEWAY: Self =
        Self::warning("IST0132", "VirtualServiceHostNotFoundInGateway");
    pub const UNKNOWN_DESTINATION_RULE_HOST: Self =
        Self::warning("IST0174", "UnknownDestinationRuleHost");
    pub const CONFLICTING_GATEWAYS: Self = Self::error("IST0145", "ConflictingGateways");

    // Ours: input.
    pub const UNREADABLE_FILE: Self = Self::error("PGR0001", "UnreadableFile");
    pub const INVALID_YAML: Self = Self::error("PGR0002", "InvalidYaml");
    pub const UNKNOWN_FIELD: Self = Self::error("PGR0003", "UnknownField");
    pub const WRONG_TYPE: Self = Self::error("PGR0004", "WrongType");
    pub const DUPLICATE_OBJECT: Self = Self::error("PGR0005", "DuplicateObject");
    pub const NOT_AN_OBJECT: Self = Self::error("PGR0006", "NotAnObject");
    pub const NO_OBJECTS: Self = Self::warning("PGR0007", "NoObjects");
    pub const FILE_TOO_LARGE: Self = Self::error("PGR0008", "FileTooLarge");
    pub const UNKNOWN_API_VERSION: Self = Self::error("PGR0009", "UnknownApiVersion");
    pub const FOREIGN_KIND: Self = Self::info("PGR0010", "ForeignKind");
    // Ours: conservation and fencing.
    pub const UNSUPPORTED: Self = Self::error("PGR0101", "Unsupported");
    pub const UNENFORCED_PROTECTION: Self = Self::error("PGR0102", "UnenforcedProtection");
    pub const FENCED: Self = Self::error("PGR0103", "Fenced");
    pub const SERVES_PREVIOUS_VERSION: Self = Self::warning("PGR0104", "ServesPreviousVersion");
    pub const NOT_FOR_THIS_GATEWAY: Self = Self::info("PGR0105", "NotForThisGateway");
    pub const SHADOWED: Self = Self::warning("PGR0106", "Shadowed");
    pub const ACCEPTED_UNENFORCED: Self = Self::warning("PGR0107", "AcceptedUnenforced");
    // Ours: meaning.
    pub const INVALID_VALUE: Self = Self::error("PGR0201", "InvalidValue");
    pub const INERT_FIELD: Self = Self::warning("PGR0202", "InertField");
    pub const AMBIGUOUS_PORT: Self =
        Self::error("IST0112", "VirtualServiceDestinationPortSelectorRequired");
    pub const NO_ENDPOINTS: Self = Self::warning("PGR0204", "NoEndpoints");
    pub const NO_ENDPOINT_RECORDS: Self = Self::info("PGR0205", "NoEndpointRecords");
    pub const LINEAR_RULES: Self = Self::warning("PGR0206", "LinearRules");
    pub const PORT_CONFLICT: Self = Self::error("PGR0207", "PortConflict");
    pub const UNUSED_OBJECT: Self = Self::info("PGR0209", "UnusedObject");
    pub const NO_GATEWAY: Self = Self::warning("PGR0210", "NoGateway");
    pub const UNROUTED_HOST: Self = Self::warning("PGR0211", "UnroutedHost");
    pub const UNSAFE_RETRIES: Self = Self::warning("PGR0212", "UnsafeRetries");
    pub const UNVERIFIED_ORIGIN: Self = Self::warning("PGR0213", "UnverifiedOrigin");
    // Ours: running.
    pub const CERTIFICATE_EXPIRES: Self = Self::warning("PGR0302", "CertificateExpires");
    pub const LISTENER_FAILED: Self = Self::error("PGR0301", "ListenerFailed");
}

/// One thing to know about one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub severity: Severity,
    pub origin: Option<Origin>,
    pub object: Option<ObjectKey>,
    /// Field path inside the object (`spec.http[0].match[1].uri`), empty if about the whole.
    pub path: String,
    /// One sentence: what is the case.
    pub message: String,
    /// What to change; empty if nothing.
    pub hint: String,
}

impl Finding {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity,
            origin: None,
            object: None,
            path: String::new(),
            message: message.into(),
            hint: String::new(),
        }
    }

    pub fn at(mut self, origin: &Origin) -> Self {
        self.origin = Some(origin.clone());
        self
    }

    pub fn of(mut self, object: &ObjectKey) -> Self {
        self.object = Some(object.clone());
        self
    }

    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The order in which findings are shown: by place, then code, then path. Whatever the order
    /// they were found in, equal findings come to stand side by side.
    pub fn sort(findings: &mut [Finding]) {
        findings.sort_by(|a, b| {
            (&a.origin, a.code.id, &a.path, &a.message)
                .cmp(&(&b.origin, b.code.id, &b.path, &b.message))
                .then_with(|| {
                    (&a.object, &a.hint, a.severity).cmp(&(&b.object, &b.hint, b.severity))
                })
        });
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{} [{} {}]", self.severity, self.code.id, self.code.name)?;
        if let Some(object) = &self.object {
            write!(f, " {object}")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\n    hint: {}", self.hint)?;
        }
        Ok(())
    }
}

/// All findings of one load, in the order shown.
pub type Findings = Vec<Finding>;
