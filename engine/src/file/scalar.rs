//! What a scalar says: YAML 1.2's core schema, durations and sizes. And whole nodes as config values.
//!
//! Pure. What YAML 1.1 did besides (`yes`, `010` as eight, `1:30`, dates) is text or a decimal here.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::value::Value;

use super::node::{Fault, Kind, Node, Scalar};

/// Whether this unquoted text is the null value.
pub(crate) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The words for what a scalar is.
pub(crate) fn what(scalar: &Scalar) -> &'static str {
    match resolve(scalar) {
        Ok(Value::Null) => "nothing",
        Ok(Value::Bool(_)) => "true or false",
        Ok(Value::Int(_) | Value::Float(_)) | Err(_) => "a number",
        Ok(Value::Str(_) | Value::List(_) | Value::Map(_)) => "a text",
    }
}

/// The value of a scalar.
///
/// # Errors
/// A number that cannot be held exactly, or a tag that does not fit: message and hint.
pub(crate) fn resolve(scalar: &Scalar) -> Result<Value, (String, Option<String>)> {
    let text = scalar.text.as_str();
    match scalar.tag.as_deref() {
        None if scalar.quoted => Ok(Value::Str(text.to_owned())),
        None => plain(text),
        Some("str") => Ok(Value::Str(text.to_owned())),
        Some(tag) => {
            let value = plain(text)?;
            let fits = match (tag, &value) {
                ("null", Value::Null) | ("bool", Value::Bool(_)) | ("int", Value::Int(_)) => true,
                ("float", Value::Float(_)) => true,
                #[expect(clippy::cast_precision_loss, reason = "the tag asks for the nearest float")]
                ("float", Value::Int(whole)) => return Ok(Value::Float(*whole as f64)),
                _ => false,
            };
            if fits { Ok(value) } else { Err((format!("`{text}` is no `!!{tag}`"), None)) }
        }
    }
}

fn plain(text: &str) -> Result<Value, (String, Option<String>)> {
    if is_null(text) {
        return Ok(Value::Null);
    }
    match text {
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => {
            let hint = "leave the key out, or write `null` where the field allows it";
            return Err(("NaN is no value: it equals not even itself".to_owned(), Some(hint.to_owned())));
        }
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let hint = "leave the key out, or give a number that is large enough";
        return Err((
            "an infinite number is no value: JSON cannot hold it".to_owned(),
            Some(hint.to_owned()),
        ));
    }
    if let Some(whole) = int(text, unsigned) {
        let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
        return match whole {
            Some(whole) if range.contains(&whole) => Ok(Value::Int(whole)),
            _ => Err((
                format!("`{text}` is outside of -2^63 to 2^64-1"),
                Some(format!("quote it as a text, \"{text}\", or write a float, 1e20")),
            )),
        };
    }
    if is_float(unsigned)
        && let Ok(float) = text.parse::<f64>()
    {
        if float.is_infinite() {
            return Err((format!("`{text}` is larger than any number that can be held"), None));
        }
        return Ok(Value::Float(float));
    }
    Ok(Value::Str(text.to_owned()))
}

/// A whole number by the core schema: `None` if it is none, `Some(None)` if it does not fit.
fn int(text: &str, unsigned: &str) -> Option<Option<i128>> {
    let all = |digits: &str, radix: u32| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, 8).then(|| i128::from_str_radix(digits, 8).ok());
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, 16).then(|| i128::from_str_radix(digits, 16).ok());
    }
    all(unsigned, 10).then(|| text.parse().ok())
}

fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => digits(mantissa) && !mantissa.is_empty(),
    };
    let exponent_fits = exponent.is_none_or(|exponent| {
        let power = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        digits(power) && !power.is_empty()
    });
    mantissa_fits && exponent_fits
}

/// A node as a config value.
///
/// # Errors
/// Each scalar in it that is no value.
pub(crate) fn value(node: &Node) -> Result<Value, Vec<Fault>> {
    let mut faults = Vec::new();
    let value = convert(node, &mut faults);
    if faults.is_empty() { Ok(value) } else { Err(faults) }
}

fn convert(node: &Node, faults: &mut Vec<Fault>) -> Value {
    match &node.kind {
        Kind::Scalar(scalar) => resolve(scalar).unwrap_or_else(|(message, hint)| {
            faults.push(Fault { at: node.at, message, hint });
            Value::Null
        }),
        Kind::List(items) => Value::List(items.iter().map(|item| convert(item, faults)).collect()),
        Kind::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|entry| (entry.key.clone(), convert(&entry.value, faults)))
                .collect::<BTreeMap<_, _>>(),
        ),
    }
}

/// `90s`, `10m`, `1h30m`, `1d`, `2w`, `500ms`: always with a unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let amount: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 604_800_000,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        total = total.checked_add(Duration::from_millis(amount.checked_mul(millis)?))?;
    }
    Some(total)
}

/// `8G`, `512M`, `1.5GiB` (powers of 1024), `8GB` (powers of 1000), or bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "K" | "Ki" | "KiB" => 1 << 10,
        "M" | "Mi" | "MiB" => 1 << 20,
        "G" | "Gi" | "GiB" => 1 << 30,
        "T" | "Ti" | "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    let amount = &text[..digits];
    if !amount.contains('.') {
        return amount.parse::<u64>().ok()?.checked_mul(unit);
    }
    let bytes = amount.parse::<f64>().ok()? * unit as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    (bytes.is_finite() && bytes < 1e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_of(text: &str) -> Value {
        plain(text).expect("a value")
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let str = |text: &str| Value::Str(text.to_owned());
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("nil", str("nil")),
            ("true", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("yes", str("yes")),
            ("off", str("off")),
            ("0", Value::Int(0)),
            ("-7", Value::Int(-7)),
            ("+7", Value::Int(7)),
            ("010", Value::Int(10)),
            ("0o10", Value::Int(8)),
            ("0xfF", Value::Int(255)),
            ("0x", str("0x")),
            ("-0x1", str("-0x1")),
            ("18446744073709551615", Value::Int(u64::MAX.into())),
            ("-9223372036854775808", Value::Int(i64::MIN.into())),
            ("1.0", Value::Float(1.0)),
            ("1.", Value::Float(1.0)),
            (".5", Value::Float(0.5)),
            ("-1e3", Value::Float(-1000.0)),
            ("1e", str("1e")),
            (".", str(".")),
            ("1_000", str("1_000")),
            ("1:30", str("1:30")),
            ("2024-01-01", str("2024-01-01")),
            ("3.10", Value::Float(3.1)),
            ("3.10.2", str("3.10.2")),
            ("inf", str("inf")),
            ("nan", str("nan")),
        ] {
            assert_eq!(plain_of(text), expected, "{text}");
        }
        for text in [".nan", ".inf", "-.INF", "18446744073709551616", "-9223372036854775809", "1e999"] {
            assert!(plain(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let seconds = |n| Some(Duration::from_secs(n));
        for (text, expected) in [
            ("10m", seconds(600)),
            ("1d", seconds(86_400)),
            ("1h30m", seconds(5_400)),
            ("1 h 30 min", seconds(5_400)),
            ("500ms", Some(Duration::from_millis(500))),
            ("10", None),
            ("", None),
            ("m", None),
            ("1.5h", None),
            ("-1s", None),
            ("1y", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_of_1024_unless_they_say_otherwise() {
        for (text, expected) in [
            ("8G", Some(8 << 30)),
            ("512M", Some(512 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("8 GB", Some(8_000_000_000)),
            ("100", Some(100)),
            ("", None),
            ("G", None),
            ("8X", None),
            ("-1G", None),
            ("99999999999T", None),
            ("1.2.3G", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }
}
