//! The Prometheus text format, for rooms that keep their numbers themselves.
//!
//! `upstream` writes a cluster's numbers with it when they are asked for: they live with the
//! cluster, so no series outlives it.

use std::fmt::{Display, Write};

use super::requests::push_label;

/// Metrics as text; families one after the other.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    name: &'static str,
}

impl Exposition {
    /// Begins a family. `kind` is `counter` or `gauge`.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a series to the family. Label values must come from configuration.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let mut written = String::new();
        for (name, value) in labels {
            push_label(&mut written, name, value);
        }
        let written = written.strip_prefix(',').unwrap_or_default();
        let _ = writeln!(self.text, "{}{{{written}}} {value}", self.name);
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_head_once_and_its_labels_escaped() {
        let mut exposition = Exposition::default();
        exposition.family("x_total", "counter", "Things.");
        exposition.sample(&[("a", "one"), ("b", "two\"")], 3);
        exposition.sample(&[("a", "two")], 4);
        assert_eq!(
            exposition.into_text(),
            "# HELP x_total Things.\n# TYPE x_total counter\n\
             x_total{a=\"one\",b=\"two\\\"\"} 3\nx_total{a=\"two\"} 4\n"
        );
    }
}
