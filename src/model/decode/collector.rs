//! Where issues gather while one document is decoded, and the way to the value at hand.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de;

use crate::base::Position;
use crate::model::Node;
use crate::model::object::{FieldPath, Issue, IssueKind};

use super::UnknownFields;

/// The issues of one document, and which of its values were already found wanting.
///
/// A struct with an unreadable field is decoded again without that field, so every value must
/// be reported once only: a value is known by its address, which is stable while its document
/// is borrowed.
pub(super) struct Collector {
    pub(super) unknown: UnknownFields,
    issues: RefCell<Vec<Issue>>,
    /// Entries and elements to leave out.
    left_out: RefCell<HashSet<usize>>,
    /// Elements that are wrong as a whole and stay in their list as broken.
    broken: RefCell<HashSet<usize>>,
}

impl Collector {
    pub(super) fn new(unknown: UnknownFields) -> Self {
        Self {
            unknown,
            issues: RefCell::default(),
            left_out: RefCell::default(),
            broken: RefCell::default(),
        }
    }

    pub(super) fn push(&self, issue: Issue) {
        self.issues.borrow_mut().push(issue);
    }

    pub(super) fn leave_out(&self, node: &Node) {
        self.left_out.borrow_mut().insert(address(node));
    }

    pub(super) fn is_left_out(&self, node: &Node) -> bool {
        self.left_out.borrow().contains(&address(node))
    }

    pub(super) fn mark_broken(&self, node: &Node) {
        self.broken.borrow_mut().insert(address(node));
    }

    pub(super) fn is_broken(&self, node: &Node) -> bool {
        self.broken.borrow().contains(&address(node))
    }

    pub(super) fn into_issues(self) -> Vec<Issue> {
        self.issues.into_inner()
    }
}

fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

/// The way from the document's root, as a list on the stack.
#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    Root(&'p FieldPath),
    Field(&'p Path<'p>, &'p Arc<str>),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    pub(super) fn to_field_path(self) -> FieldPath {
        match self {
            Path::Root(path) => path.clone(),
            Path::Field(parent, name) => parent
                .to_field_path()
                .then(crate::model::object::Step::Field(name.clone())),
            Path::Index(parent, index) => parent.to_field_path().index(index),
        }
    }
}

/// Why a value could not be decoded.
#[derive(Debug)]
pub(super) enum DecodeError {
    /// The issue is collected and the value marked; the struct around it is to be tried again.
    Recorded,
    /// Still to be collected by who knows the place.
    Wrong { message: String, hint: String },
}

impl DecodeError {
    pub(super) fn wrong(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Wrong {
            message: message.into(),
            hint: hint.into(),
        }
    }

    pub(super) fn too_many() -> Self {
        Self::wrong(
            "has too many values of a wrong type",
            "mend those reported first",
        )
    }

    pub(super) fn into_issue(self, path: FieldPath, position: Position) -> Option<Issue> {
        match self {
            Self::Recorded => None,
            Self::Wrong { message, hint } => Some(Issue {
                kind: IssueKind::WrongType,
                path,
                position,
                message,
                hint,
            }),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded => f.write_str("already recorded"),
            Self::Wrong { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::wrong(message.to_string(), "")
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::wrong(format!("is {unexpected}, but {expected} is expected"), "")
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::wrong(
            format!("is {unexpected}, which does not fit {expected}"),
            "",
        )
    }
}
