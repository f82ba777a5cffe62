//! The string formats of OpenAPI as the API server checks them.
//!
//! Deliberately loose where the API server is loose: a duration may be `3 weeks`, a date-time only needs the
//! form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

/// The longest a hostname may be, and each of its labels (RFC 1035).
const HOSTNAME_LENGTH: usize = 255;
const LABEL_LENGTH: usize = 63;

/// Seconds in each unit of a loose duration, by the prefix or the exact words that name it.
const LOOSE_UNITS: [(&[&str], i64); 8] = [
    (&["ns", "nano"], 1),
    (&["us", "µs", "micro"], 1_000),
    (&["ms", "milli"], 1_000_000),
    (&["s", "sec"], 1_000_000_000),
    (&["m", "min"], 60_000_000_000),
    (&["h", "hr", "hour"], 3_600_000_000_000),
    (&["d", "day"], 86_400_000_000_000),
    (&["w", "wk", "week"], 604_800_000_000_000),
];

static DATE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"));
static CLOCK: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"));
static BASE64: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$")
});
static UUID: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"));
static MAC: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^([0-9A-Fa-f]{2}([:-])){5,7}[0-9A-Fa-f]{2}$|^([0-9A-Fa-f]{4}\.){2,3}[0-9A-Fa-f]{4}$")
});
static HEX_COLOR: LazyLock<Regex> = LazyLock::new(|| pattern(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"));
static RGB_COLOR: LazyLock<Regex> = LazyLock::new(|| {
    let byte = "(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])";
    pattern(&format!(r"^rgb\(\s*{byte}\s*,\s*{byte}\s*,\s*{byte}\s*\)$"))
});
static SSN: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"));
static EMAIL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?:[^<>]*<)?[^@\s<>]+@[^@\s<>]+>?$"));
static LOOSE_DURATION: LazyLock<Regex> = LazyLock::new(|| pattern(r"([0-9]+)\s*([A-Za-zµ]+)"));
static LABEL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[\p{L}\p{S}0-9]([\p{L}\p{S}0-9-]*[\p{L}\p{S}0-9])?$"));
static DNS_LABEL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"));

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("the pattern is a constant that the tests compile")
}

/// Whether the format is checked at all; others are accepted as they are.
pub(super) fn known(format: &str) -> bool {
    !matches!(format, "int32" | "int64" | "float" | "double")
}

/// Whether `text` has the format, which is one that the schema compiler let through.
pub(super) fn matches(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "datetime" => date_time(text),
        "date" => date(text),
        "duration" => duration_nanoseconds(text).is_some(),
        "byte" => BASE64.is_match(text),
        "uuid" => UUID.is_match(text),
        version @ ("uuid3" | "uuid4" | "uuid5") => UUID.is_match(text) && uuid_version(text, version),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => MAC.is_match(text),
        "hostname" => hostname(text),
        "email" => EMAIL.is_match(text),
        "uri" => uri(text),
        "hexcolor" => HEX_COLOR.is_match(text),
        "rgbcolor" => RGB_COLOR.is_match(text),
        "ssn" => SSN.is_match(text),
        "bsonobjectid" => text.len() == 24 && text.chars().all(|letter| letter.is_ascii_hexdigit()),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "creditcard" => luhn(text),
        "k8sshortname" => text.len() <= LABEL_LENGTH && DNS_LABEL.is_match(text),
        "k8slongname" => text.len() <= 253 && text.split('.').all(|label| DNS_LABEL.is_match(label)),
        _ => true,
    }
}

fn date(text: &str) -> bool {
    DATE.is_match(text) && text.parse::<jiff::civil::Date>().is_ok()
}

fn date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let Some((day, rest)) = lower.split_once('t') else { return false };
    let clock = rest.split('t').next().unwrap_or_default();
    let Some(parts) = CLOCK.captures(clock) else { return false };
    date(day) && &parts[1] <= "23" && &parts[2] <= "59" && &parts[3] <= "59"
}

/// A duration in the syntax of Go (`1h30m`), or in the loose one (`3 weeks`), in nanoseconds.
pub(super) fn duration_nanoseconds(text: &str) -> Option<i64> {
    go_duration(text).or_else(|| loose_duration(text))
}

fn go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("μs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 60e9),
            ("h", 3600e9),
        ];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total += number * factor;
    }
    (total <= i64::MAX as f64).then_some(sign * total as i64)
}

fn loose_duration(text: &str) -> Option<i64> {
    let mut total: Option<i64> = None;
    for parts in LOOSE_DURATION.captures_iter(text) {
        let factor: i64 = parts[1].parse().ok()?;
        let unit = parts[2].to_lowercase();
        for (names, nanoseconds) in LOOSE_UNITS {
            let longest = names.last().copied().unwrap_or_default();
            if names.contains(&unit.as_str()) || unit.starts_with(longest) {
                total = Some(total.unwrap_or(0).checked_add(factor.checked_mul(nanoseconds)?)?);
            }
        }
    }
    total
}

fn uuid_version(text: &str, format: &str) -> bool {
    let hex: String = text.chars().filter(|letter| *letter != '-').collect();
    let variant = hex.chars().nth(16).map(|letter| letter.to_ascii_lowercase());
    hex.chars().nth(12) == format.chars().last()
        && (format == "uuid3" || matches!(variant, Some('8' | '9' | 'a' | 'b')))
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let longest = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.chars().all(|digit| digit.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= longest)
}

fn hostname(text: &str) -> bool {
    text.len() <= HOSTNAME_LENGTH
        && text.split('.').all(|label| label.len() <= LABEL_LENGTH && LABEL.is_match(label))
}

/// An absolute URI or an absolute path, which is what Go's `url.ParseRequestURI` takes.
fn uri(text: &str) -> bool {
    text.starts_with('/')
        || text.split_once(':').is_some_and(|(scheme, rest)| {
            scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
                && !rest.is_empty()
                && !text.contains(char::is_whitespace)
        })
}

fn isbn10(text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(|letter| !matches!(letter, '-' | ' ')).collect();
    let sum = digits.iter().enumerate().try_fold(0u32, |sum, (place, letter)| {
        let digit = if *letter == 'X' && place == 9 { 10 } else { letter.to_digit(10)? };
        Some(sum + digit * 10u32.saturating_sub(place as u32))
    });
    digits.len() == 10 && sum.is_some_and(|sum| sum.is_multiple_of(11))
}

fn isbn13(text: &str) -> bool {
    let digits: Vec<u32> = text
        .chars()
        .filter(|letter| !matches!(letter, '-' | ' '))
        .map_while(|letter| letter.to_digit(10))
        .collect();
    let sum: u32 =
        digits.iter().enumerate().map(|(place, digit)| digit * if place % 2 == 0 { 1 } else { 3 }).sum();
    digits.len() == 13 && sum.is_multiple_of(10)
}

fn luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|letter| letter.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) => double / 10 + double % 10,
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_and_refuse() {
        for (format, good, bad) in [
            ("date-time", "2001-02-03T04:05:06Z", "2001-02-03 04:05:06"),
            ("date-time", "2001-02-03t04:05:06.7+08:00", "2001-02-30T04:05:06Z"),
            ("date", "2001-02-03", "2001-2-3"),
            ("duration", "1h30m", "soon"),
            ("duration", "3 weeks", "1x"),
            ("byte", "aGk=", "a"),
            ("uuid", "00000000-0000-4000-8000-000000000001", "zz"),
            ("uuid4", "00000000-0000-4000-8000-000000000001", "00000000-0000-3000-8000-000000000001"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("hostname", "a.example", "-a.example"),
            ("email", "a@b.example", "ab.example"),
            ("uri", "https://a.example/x", "no uri"),
            ("hexcolor", "#ffAA00", "#ffg"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn13", "978-0321751041", "978-0321751042"),
            ("mac", "01:23:45:67:89:ab", "01:23"),
            ("rgbcolor", "rgb(1,2,255)", "rgb(1,2,256)"),
            ("ssn", "123-45-6789", "12-345-678"),
        ] {
            assert!(matches(format, good), "{format} {good}");
            assert!(!matches(format, bad), "{format} {bad}");
        }
    }

    #[test]
    fn durations_add_up() {
        assert_eq!(duration_nanoseconds("1h30m"), Some(5_400_000_000_000));
        assert_eq!(duration_nanoseconds("-1.5s"), Some(-1_500_000_000));
        assert_eq!(duration_nanoseconds("2 days"), Some(172_800_000_000_000));
        assert_eq!(duration_nanoseconds(""), None);
    }
}
