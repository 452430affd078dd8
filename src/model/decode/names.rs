//! Field names: the protobuf spelling of a known one, and the known one nearest to a mistake.

/// The field that a key means, if any: the key itself or its camel case form.
pub(super) fn resolve(key: &str, fields: &[&'static str]) -> Option<&'static str> {
    let find = |name: &str| fields.iter().copied().find(|field| *field == name);
    find(key).or_else(|| {
        key.contains('_')
            .then(|| camel_case(key))
            .and_then(|name| find(&name))
    })
}

/// `max_connections` to `maxConnections`, as protobuf derives JSON names.
fn camel_case(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    let mut raise = false;
    for letter in key.chars() {
        if letter == '_' {
            raise = true;
        } else if raise {
            name.push(letter.to_ascii_uppercase());
            raise = false;
        } else {
            name.push(letter);
        }
    }
    name
}

/// What to write instead of an unknown key.
pub(super) fn hint(key: &str, fields: &[&'static str]) -> String {
    let lowered = key.to_ascii_lowercase();
    let nearest = fields
        .iter()
        .map(|field| (distance(&lowered, &field.to_ascii_lowercase()), *field))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, field)) if distance <= (field.len() / 3).max(1) => {
            format!("did you mean `{field}`?")
        }
        _ if fields.is_empty() => "remove it".to_owned(),
        _ => format!(
            "remove it, or move it to where it belongs; known here: {}",
            fields.join(", ")
        ),
    }
}

/// Levenshtein's distance. Keys far longer than any field are not compared.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    if a.len() > 3 * b.len().max(8) {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        let mut left = i + 1;
        for (to, pair) in b.iter().zip(row.windows(2)) {
            let (diagonal, above) = match pair {
                [diagonal, above] => (*diagonal, *above),
                _ => continue,
            };
            left = (diagonal + usize::from(from != *to))
                .min(above + 1)
                .min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proto_names_resolve_to_their_camel_case_fields() {
        let fields = ["maxConnections", "consecutive5xxErrors", "host"];
        assert_eq!(resolve("max_connections", &fields), Some("maxConnections"));
        assert_eq!(
            resolve("consecutive_5xx_errors", &fields),
            Some("consecutive5xxErrors")
        );
        assert_eq!(resolve("host", &fields), Some("host"));
        assert_eq!(resolve("Host", &fields), None);
    }

    #[test]
    fn a_near_miss_names_the_field_and_a_stranger_lists_them() {
        assert_eq!(
            hint("pefix", &["exact", "prefix"]),
            "did you mean `prefix`?"
        );
        assert_eq!(hint("URI", &["uri"]), "did you mean `uri`?");
        assert!(hint("banana", &["exact", "prefix"]).ends_with("exact, prefix"));
        assert!(!hint(&"x".repeat(1_000_000), &["exact"]).is_empty());
    }
}
