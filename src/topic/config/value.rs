//! What a configuration value may look like: its type and its range, checked on text.
//!
//! Owns: [`Kind`], [`Check`] and the words of a refusal. Used by the table of topic keys beside it and by
//! the broker's table in `config`.
//! Invariant: a value that passed [`check`] parses.
//! Deliberately absent: names of keys, defaults, where a value came from.

use std::fmt;

/// Type of a value, as DescribeConfigs names it (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Bool,
    /// 16-bit integer.
    Short,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    Long,
    /// Floating point.
    Double,
    /// Free text.
    Text,
    /// Text with commas.
    List,
    /// Name of a Java class; never loaded here.
    Class,
    /// Secret text; never shown.
    Password,
}

/// What a value must satisfy beyond its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    /// Nothing.
    Any,
    /// An integer of at least this.
    Min(i64),
    /// An integer between these, both included.
    Range(i64, i64),
    /// -1, or an integer between these, both included.
    RangeOrMinusOne(i64, i64),
    /// A floating-point number from 0 to 1.
    Ratio,
    /// One of these, case counts.
    OneOf(&'static [&'static str]),
    /// A list of any of these.
    Each(&'static [&'static str]),
}

/// Why a value is not accepted. Becomes INVALID_CONFIG (40) at the Kafka door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value {value} for configuration {key}: {reason}")]
pub struct Refusal {
    /// Name of the key as it was given.
    pub key: String,
    /// The value, or `[hidden]` for a secret.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Refusal {
    /// Builds a refusal of `value` for `key`.
    pub fn new(key: impl Into<String>, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), reason: reason.into() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Short => "short",
            Self::Int => "int",
            Self::Long => "long",
            Self::Double => "double",
            Self::Text => "string",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
        })
    }
}

/// Checks `text` against a type and a range. Blanks around it do not count, as in Apache Kafka.
///
/// # Errors
/// The reason, as the end of a sentence that starts with key and value.
pub fn check(kind: Kind, rule: Check, text: &str) -> Result<(), String> {
    let text = text.trim();
    match kind {
        Kind::Bool => parse_bool(text).map(drop).ok_or_else(|| "expected true or false".to_owned())?,
        Kind::Short => integer(text, i64::from(i16::MIN), i64::from(i16::MAX), "a 16-bit integer")?,
        Kind::Int => integer(text, i64::from(i32::MIN), i64::from(i32::MAX), "a 32-bit integer")?,
        Kind::Long => integer(text, i64::MIN, i64::MAX, "a 64-bit integer")?,
        Kind::Double => {
            text.parse::<f64>().map_err(|_| "expected a number".to_owned())?;
        }
        Kind::Text | Kind::List | Kind::Class | Kind::Password => {}
    }
    within(rule, text)
}

/// Reads a boolean the way [`check`] accepts it.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The entries of a list value, blanks and empty entries dropped (Testcontainers for .NET ends
/// `advertised.listeners` with a comma).
pub fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn integer(text: &str, min: i64, max: i64, what: &str) -> Result<(), String> {
    match text.parse::<i64>() {
        Ok(n) if (min..=max).contains(&n) => Ok(()),
        _ => Err(format!("expected {what}")),
    }
}

fn within(rule: Check, text: &str) -> Result<(), String> {
    let number = || text.parse::<i64>().map_err(|_| "expected an integer".to_owned());
    match rule {
        Check::Any => Ok(()),
        Check::Min(min) if number()? < min => Err(format!("must be at least {min}")),
        Check::Range(min, max) if !(min..=max).contains(&number()?) => {
            Err(format!("must be from {min} to {max}"))
        }
        Check::RangeOrMinusOne(min, max) if number()? != -1 && !(min..=max).contains(&number()?) => {
            Err(format!("must be -1 or from {min} to {max}"))
        }
        Check::Ratio if !text.parse::<f64>().is_ok_and(|n| (0.0..=1.0).contains(&n)) => {
            Err("must be from 0 to 1".to_owned())
        }
        Check::OneOf(words) if !words.contains(&text) => Err(format!("must be one of {}", words.join(", "))),
        Check::Each(words) if !entries(text).all(|entry| words.contains(&entry)) => {
            Err(format!("must be a list of {}", words.join(", ")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_checked_by_type_first_and_then_by_range() {
        assert_eq!(check(Kind::Int, Check::Min(1), "x"), Err("expected a 32-bit integer".to_owned()));
        assert_eq!(check(Kind::Int, Check::Any, "2147483648"), Err("expected a 32-bit integer".to_owned()));
        assert_eq!(check(Kind::Int, Check::Min(1), "0"), Err("must be at least 1".to_owned()));
        assert_eq!(check(Kind::Int, Check::Min(1), " 1 "), Ok(()));
        assert_eq!(check(Kind::Bool, Check::Any, "TRUE"), Ok(()));
        assert_eq!(check(Kind::Bool, Check::Any, "yes"), Err("expected true or false".to_owned()));
        assert_eq!(check(Kind::Double, Check::Ratio, "NaN"), Err("must be from 0 to 1".to_owned()));
        assert_eq!(check(Kind::Int, Check::RangeOrMinusOne(1, 9), "-1"), Ok(()));
        assert!(check(Kind::Int, Check::RangeOrMinusOne(1, 9), "0").is_err());
    }

    #[test]
    fn a_list_is_checked_entry_by_entry() {
        let rule = Check::Each(&["compact", "delete"]);
        assert_eq!(check(Kind::List, rule, "compact, delete,"), Ok(()));
        assert!(check(Kind::List, rule, "compact,remove").is_err());
    }
}
