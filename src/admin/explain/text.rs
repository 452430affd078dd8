//! An explanation for people: the answer first, then why.

use std::fmt::{self, Display, Formatter};

use super::{Carried, Edits, Explained, Members, Outcome, Problem, Retries, Rule, Sent};

impl Display for Explained {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        let is_connection = request.method.is_empty();
        match is_connection {
            true => writeln!(f, "connection {}", request.url)?,
            false => writeln!(f, "{} {}", request.method, request.url)?,
        }
        writeln!(
            f,
            "  comes in at {} (port {})",
            self.listener.address, self.listener.port
        )?;
        if !is_connection {
            write!(f, "  as host {}, path {}", request.host, request.path)?;
            match &request.received_path {
                Some(received) => writeln!(f, ", normalised from {received:?}")?,
                None => writeln!(f)?,
            }
        }
        writeln!(f)?;
        if let Some(rule) = &self.rule {
            writeln!(f, "rule {}", place(rule))?;
            writeln!(f, "  matches {}", rule.conditions)?;
            writeln!(f)?;
        }
        for guard in &self.guards {
            write!(f, "{guard}")?;
        }
        outcome(f, &self.outcome)?;
        if !self.losers.is_empty() {
            writeln!(f, "\ntried before, not matching")?;
            for loser in &self.losers {
                writeln!(f, "  {}", place(&loser.rule))?;
                writeln!(f, "    {}", loser.failed)?;
            }
            omitted(f, self.losers_omitted)?;
        }
        if !self.shadowed.is_empty() {
            writeln!(f, "\nmatching too, but later")?;
            for rule in &self.shadowed {
                writeln!(f, "  {}", place(rule))?;
            }
            omitted(f, self.shadowed_omitted)?;
        }
        Ok(())
    }
}

fn place(rule: &Rule) -> String {
    format!(
        "{} {} {} (name {:?})",
        rule.origin, rule.object, rule.path, rule.name
    )
}

fn omitted(f: &mut Formatter<'_>, count: usize) -> fmt::Result {
    match count {
        0 => Ok(()),
        _ => writeln!(f, "  and {count} more; ask for all to see them"),
    }
}

fn outcome(f: &mut Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    match outcome {
        Outcome::Forward {
            timeout_ms,
            retries,
            policies,
            destinations,
        } => {
            for line in &policies.lines {
                writeln!(f, "{line}")?;
            }
            for sent in destinations {
                destination(f, sent)?;
            }
            if let Some(timeout) = timeout_ms {
                writeln!(f, "within {timeout} ms")?;
            }
            repeats(f, retries.as_ref())
        }
        Outcome::Connection { destinations } => {
            destinations.iter().try_for_each(|sent| carried(f, sent))
        }
        Outcome::Closed { flags, reason, .. } => {
            writeln!(f, "closes the connection ({flags}): {reason}")
        }
        Outcome::Redirect {
            status,
            location,
            response_headers,
        } => {
            writeln!(f, "answers {status} redirecting to {location}")?;
            edits(f, "response", response_headers)
        }
        Outcome::DirectResponse {
            status,
            body,
            response_headers,
        } => {
            writeln!(f, "answers {status} with {body:?}")?;
            edits(f, "response", response_headers)
        }
        Outcome::HttpsRedirect {
            status,
            location,
            server,
        } => {
            writeln!(
                f,
                "answers {status} redirecting to {location}, as the server at {server} says"
            )
        }
        Outcome::Fenced {
            status,
            reason,
            origin,
            ..
        } => {
            writeln!(f, "answers {status} because of {origin}: {reason}")
        }
        Outcome::NotFound {
            status,
            flags,
            reason,
        } => writeln!(f, "answers {status} {flags}: {reason}"),
        Outcome::Refused {
            status,
            cause,
            reason,
        } => {
            writeln!(f, "answers {status} before routing ({cause}): {reason}")
        }
    }
}

fn repeats(f: &mut Formatter<'_>, retries: Option<&Retries>) -> fmt::Result {
    let Some(retries) = retries else {
        return writeln!(f, "without retries");
    };
    write!(
        f,
        "with up to {} retries on {}",
        retries.attempts,
        retries.on.join(",")
    )?;
    if let Some(timeout) = retries.per_try_timeout_ms {
        write!(f, ", each attempt within {timeout} ms")?;
    }
    writeln!(f, ", as {} says", retries.by)
}

fn carried(f: &mut Formatter<'_>, sent: &Carried) -> fmt::Result {
    sends(f, sent.weight, sent.total_weight, &sent.cluster)?;
    writeln!(f, ", at {}", sent.origin)?;
    if let Some(Problem { flags, reason, .. }) = &sent.problem {
        writeln!(f, "  closes the connection ({flags}): {reason}")?;
    }
    places(f, sent.service_origin.as_ref(), sent.policy_origin.as_ref())?;
    match sent.service.is_some() {
        true => endpoints(f, &sent.members),
        false => Ok(()),
    }
}

fn sends(f: &mut Formatter<'_>, weight: u64, total: u64, cluster: &str) -> fmt::Result {
    write!(f, "sends ")?;
    if weight != total {
        write!(f, "{weight} of {total} ")?;
    }
    write!(f, "to {cluster}")
}

fn places(f: &mut Formatter<'_>, service: Option<&String>, policy: Option<&String>) -> fmt::Result {
    if let Some(origin) = service {
        writeln!(f, "  service at {origin}")?;
    }
    match policy {
        Some(origin) => writeln!(f, "  policy at {origin}"),
        None => Ok(()),
    }
}

fn endpoints(f: &mut Formatter<'_>, members: &Members) -> fmt::Result {
    writeln!(f, "  endpoints")?;
    let mut text = String::new();
    members.write(&mut text, "    ");
    f.write_str(&text)
}

fn destination(f: &mut Formatter<'_>, sent: &Sent) -> fmt::Result {
    sends(f, sent.weight, sent.total_weight, &sent.cluster)?;
    if let Some(subset) = &sent.subset {
        write!(f, ", subset {subset}")?;
    }
    writeln!(f, ", at {}", sent.origin)?;
    writeln!(f, "  path {}", sent.target)?;
    writeln!(f, "  host {}", sent.host)?;
    edits(f, "request", &sent.request_headers)?;
    edits(f, "response", &sent.response_headers)?;
    places(f, sent.service_origin.as_ref(), sent.policy_origin.as_ref())?;
    if let Some(problem) = &sent.problem {
        writeln!(
            f,
            "  answers {} {}: {}",
            problem.status, problem.flags, problem.reason
        )?;
    }
    match sent.service.is_some() {
        true => endpoints(f, &sent.members),
        false => Ok(()),
    }
}

fn edits(f: &mut Formatter<'_>, side: &str, edits: &Edits) -> fmt::Result {
    for field in &edits.set {
        writeln!(f, "  {side} header {}: {}", field.name, field.value)?;
    }
    for name in &edits.removed {
        writeln!(f, "  {side} header {name} removed")?;
    }
    Ok(())
}
