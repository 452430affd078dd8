//! Whose requests are taken at all, by the client's address.

use std::fmt;
use std::net::IpAddr;

use crate::base::Cidr;

/// Which addresses are let in. A denied address is denied whatever is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// Empty allows all.
    pub allow: Box<[Cidr]>,
    pub deny: Box<[Cidr]>,
}

impl Access {
    /// Whether a client is let in; one whose address is not known is not.
    #[must_use]
    pub fn admits(&self, client: Option<IpAddr>) -> bool {
        let Some(client) = client else { return false };
        let has = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(client));
        !has(&self.deny) && (self.allow.is_empty() || has(&self.allow))
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ranges: &[Cidr]| {
            let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        match self.allow.is_empty() {
            true => f.write_str("every client")?,
            false => write!(f, "only clients from {}", list(&self.allow))?,
        }
        match self.deny.is_empty() {
            true => Ok(()),
            false => write!(f, " but none from {}", list(&self.deny)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_addresses_are_denied_and_a_list_of_allowed_ones_denies_the_rest() {
        let ranges = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse::<Cidr>().unwrap())
                .collect()
        };
        let access = |allow: &[&str], deny: &[&str]| Access {
            allow: ranges(allow),
            deny: ranges(deny),
        };
        let all = ["10.1.0.1", "10.2.0.1", "11.0.0.1", "::1"];
        for (access, admitted) in [
            (access(&["10.0.0.0/8"], &[]), [true, true, false, false]),
            (
                access(&["10.0.0.0/8"], &["10.1.0.0/16"]),
                [false, true, false, false],
            ),
            (access(&[], &["10.1.0.0/16"]), [false, true, true, true]),
        ] {
            assert_eq!(
                all.map(|client| access.admits(client.parse().ok())),
                admitted,
                "{access}"
            );
            assert!(!access.admits(None));
        }
    }
}
