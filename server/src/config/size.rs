//! Sizes and durations as people write them: `4GB`, `512MB`, `4GiB`, `10s`, `250ms`.

use std::time::Duration;

/// Bytes from text: a number, optionally with a fraction, and a unit. `KB MB GB TB` are powers of 1000, `KiB MiB GiB TiB` of 1024;
/// none or `B` means bytes. The error says what was expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => {
            return Err(format!(
                "`{text}` is not a size: expected a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB"
            ));
        }
    };
    scale(number, factor).ok_or_else(|| format!("`{text}` is not a size such as 4GB, 512MB or 4GiB"))
}

/// A duration from text: a number, optionally with a fraction, and `ms`, `s`, `m` or `h`; none means seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let millis: u64 = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("`{text}` is not a duration: expected a number with ms, s, m or h")),
    };
    scale(number, millis)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a duration such as 10s or 250ms"))
}

/// The number and the unit of `text`, both trimmed.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// `number` times `factor`, exact for whole numbers; `None` if it is no number or does not fit.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let scaled = number.parse::<f64>().ok()? * factor as f64;
    (scaled.is_finite() && scaled >= 0.0 && scaled < u64::MAX as f64).then_some(scaled as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("4GB"), Ok(4_000_000_000));
        assert_eq!(parse_bytes("4GiB"), Ok(4 << 30));
        assert_eq!(parse_bytes("512 MB"), Ok(512_000_000));
        assert_eq!(parse_bytes("1.5kib"), Ok(1536));
        assert_eq!(parse_bytes("4294967296"), Ok(1 << 32));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "GB", "4XB", "-1", "1e400", "99999999999TB", "."] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert!(parse_duration("5 fortnights").is_err());
    }
}
