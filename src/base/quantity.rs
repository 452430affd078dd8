//! Durations and percentages as Istio's protobuf fields write them.

use std::time::Duration;

/// Reads a protobuf JSON duration as Go's parser accepts it (`1.5s`, `1h`, `1m30s`, `250ms`).
///
/// Istio demands whole milliseconds and at least one; `allow_zero` is for the few fields that
/// take `0s`.
///
/// # Errors
/// One sentence that says what is wrong with the text.
pub fn parse_duration(text: &str, allow_zero: bool) -> Result<Duration, String> {
    let mut rest = text;
    let mut nanos: f64 = 0.0;
    if rest.is_empty() {
        return Err("a duration is empty; write for example `5s`".into());
    }
    if rest == "0" {
        rest = "0s";
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| {
            format!("`{text}` is not a duration; write for example `1.5s`, `250ms` or `1h`")
        })?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        nanos += number
            * match &rest[..unit] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => {
                    return Err(format!(
                        "`{text}` lacks a unit; write for example `{number}s`"
                    ));
                }
            };
        rest = &rest[unit..];
    }
    // Istio bounds durations to what protobuf holds, about 10,000 years; a century is ample.
    if !nanos.is_finite() || nanos > 3_200_000_000.0 * 1e9 {
        return Err(format!("the duration `{text}` is too long"));
    }
    let duration = Duration::from_nanos(nanos.round() as u64);
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(format!("the duration `{text}` is finer than a millisecond"));
    }
    if duration.is_zero() && !allow_zero {
        return Err(format!("the duration `{text}` must be at least 1ms"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(
            parse_duration("1.5s", false),
            Ok(Duration::from_millis(1500))
        );
        assert_eq!(parse_duration("1h", false), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_duration("1m30s", false), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0s", true), Ok(Duration::ZERO));
    }

    #[test]
    fn zero_unitless_negative_and_submillisecond_durations_are_refused() {
        for text in [
            "0s",
            "",
            "5",
            "-1s",
            "0.1ms",
            "1x",
            "s",
            "1.2.3s",
            "é",
            "999999999h",
        ] {
            assert!(parse_duration(text, false).is_err(), "{text}");
        }
    }
}
