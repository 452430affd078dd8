//! Where a value was written: file, line and column of a document.
//!
//! Every value that can be reported to a user carries an [`Origin`], so that a
//! finding, an explanation or an error answer can name the line to change.

use std::fmt;
use std::sync::Arc;

/// A line and column in a text, both counted from 1. Zero means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A place in a file a user wrote. Prints as `file:line`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The path as the user named it (the folder given on the command line, then the rest).
    pub file: Arc<str>,
    pub position: Position,
    /// Index of the YAML document within the file, from 0.
    pub document: u32,
}

impl Origin {
    pub fn new(file: Arc<str>, position: Position, document: u32) -> Self {
        Self {
            file,
            position,
            document,
        }
    }

    /// The same file and document, at another place.
    pub fn at(&self, position: Position) -> Self {
        Self {
            file: self.file.clone(),
            position,
            document: self.document,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.position.line == 0 {
            return f.write_str(&self.file);
        }
        write!(f, "{}:{}", self.file, self.position.line)
    }
}
