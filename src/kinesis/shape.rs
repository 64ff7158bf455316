//! What an action expects of its request, as a table of fields, and the check of a request against it.
//!
//! Two passes, as the service makes them: kinds first (`SerializationException`), then constraints, of which the
//! first ten that fail are told in one `ValidationException`.
//! Facts: the service model of botocore 1.44.5. Texts: those that kinesalite recorded from the service.
//! Deliberately absent: what depends on a stream (each action's own file has it).

use std::borrow::Cow;
use std::fmt::Write as _;

use super::document::{Item, Node};
use super::error::{Fault, Kind as Error};

/// Most failures that one answer tells.
const FAILURES_MAX: usize = 10;
/// Longest value that an answer repeats, bytes.
const SHOWN_BYTES_MAX: usize = 1024;

/// One member of a request.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    required: bool,
    rule: Rule,
}

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    kind: Kind,
    min: Option<i64>,
    max: Option<i64>,
    pattern: Option<Pattern>,
    values: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Integer,
    Text,
    Blob,
    Time,
    /// A list, whose values all have this rule.
    List(&'static Rule),
    /// Texts by text, as tags are.
    Tags,
    Structure(&'static [Field]),
}

/// Patterns of the model; each is matched by hand, over the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Name,
    StreamArn,
    ConsumerArn,
    ResourceArn,
    StreamId,
    HashKey,
    SequenceNumber,
}

impl Pattern {
    fn text(self) -> &'static str {
        match self {
            Self::Name => "[a-zA-Z0-9_.-]+",
            Self::StreamArn => r"arn:aws.*:kinesis:.*:\d{12}:stream/\S+",
            Self::ConsumerArn => {
                r"^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+"
            }
            Self::ResourceArn => r"arn:aws.*:kinesis:.*:\d{12}:.*(stream|channel|queue)/\S+",
            Self::StreamId => "[a-z0-9]{20}-[a-z0-9]{3}",
            Self::HashKey => r"0|([1-9]\d{0,38})",
            Self::SequenceNumber => r"0|([1-9]\d{0,128})",
        }
    }

    pub(super) fn matches(self, text: &str) -> bool {
        let name = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        let number = |digits: usize| {
            let plain = !text.is_empty() && text.len() <= digits && text.bytes().all(|b| b.is_ascii_digit());
            plain && (text.len() == 1 || !text.starts_with('0'))
        };
        let solid = |text: &str| !text.is_empty() && !text.chars().any(char::is_whitespace);
        let resource = || resource_of_arn(text);
        match self {
            Self::Name => name(text),
            Self::StreamArn => resource().and_then(|r| r.strip_prefix("stream/")).is_some_and(solid),
            Self::ConsumerArn => {
                resource().and_then(consumer_of_resource).is_some_and(|(stream, consumer, created)| {
                    name(stream)
                        && name(consumer)
                        && !created.is_empty()
                        && created.bytes().all(|b| b.is_ascii_digit())
                })
            }
            Self::ResourceArn => resource().is_some_and(|r| {
                ["stream/", "channel/", "queue/"]
                    .iter()
                    .any(|kind| r.split_once(kind).is_some_and(|(_, rest)| solid(rest)))
            }),
            Self::StreamId => {
                let lower = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
                text.split_once('-')
                    .is_some_and(|(a, b)| a.len() == 20 && b.len() == 3 && lower(a) && lower(b))
            }
            Self::HashKey => number(39),
            Self::SequenceNumber => number(129),
        }
    }
}

/// The resource part of a Kinesis ARN, `arn:aws…:kinesis:region:account:resource`.
pub(super) fn resource_of_arn(arn: &str) -> Option<&str> {
    let rest = arn.strip_prefix("arn:aws")?;
    let (_partition, rest) = rest.split_once(":kinesis:")?;
    let (_region, rest) = rest.split_once(':')?;
    let (account, resource) = rest.split_once(':')?;
    (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())).then_some(resource)
}

/// Stream, consumer and creation second of `stream/NAME/consumer/NAME:SECOND`.
pub(super) fn consumer_of_resource(resource: &str) -> Option<(&str, &str, &str)> {
    let (stream, consumer) = resource.strip_prefix("stream/")?.split_once("/consumer/")?;
    let (consumer, created) = consumer.rsplit_once(':')?;
    Some((stream, consumer, created))
}

impl Rule {
    const fn of(kind: Kind) -> Self {
        Self { kind, min: None, max: None, pattern: None, values: &[] }
    }

    pub(super) const fn between(mut self, min: i64, max: i64) -> Self {
        (self.min, self.max) = (Some(min), Some(max));
        self
    }

    pub(super) const fn pattern(mut self, pattern: Pattern) -> Self {
        self.pattern = Some(pattern);
        self
    }

    pub(super) const fn one_of(mut self, values: &'static [&'static str]) -> Self {
        self.values = values;
        self
    }

    /// A rule for the values of a list.
    pub(super) const fn text() -> Self {
        Self::of(Kind::Text)
    }

    pub(super) const fn structure(fields: &'static [Field]) -> Self {
        Self::of(Kind::Structure(fields))
    }
}

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, required: false, rule: Rule::of(kind) }
    }

    pub(super) const fn bool(name: &'static str) -> Self {
        Self::new(name, Kind::Bool)
    }

    pub(super) const fn integer(name: &'static str) -> Self {
        Self::new(name, Kind::Integer)
    }

    pub(super) const fn text(name: &'static str) -> Self {
        Self::new(name, Kind::Text)
    }

    pub(super) const fn blob(name: &'static str) -> Self {
        Self::new(name, Kind::Blob)
    }

    pub(super) const fn time(name: &'static str) -> Self {
        Self::new(name, Kind::Time)
    }

    pub(super) const fn list(name: &'static str, of: &'static Rule) -> Self {
        Self::new(name, Kind::List(of))
    }

    pub(super) const fn tags(name: &'static str) -> Self {
        Self::new(name, Kind::Tags)
    }

    pub(super) const fn structure(name: &'static str, fields: &'static [Field]) -> Self {
        Self::new(name, Kind::Structure(fields))
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn at_least(mut self, min: i64) -> Self {
        self.rule.min = Some(min);
        self
    }

    pub(super) const fn between(mut self, min: i64, max: i64) -> Self {
        self.rule = self.rule.between(min, max);
        self
    }

    pub(super) const fn pattern(mut self, pattern: Pattern) -> Self {
        self.rule = self.rule.pattern(pattern);
        self
    }

    pub(super) const fn one_of(mut self, values: &'static [&'static str]) -> Self {
        self.rule = self.rule.one_of(values);
        self
    }
}

/// Checks a whole request.
///
/// # Errors
/// `SerializationException` for a wrong kind, `ValidationException` for the constraints.
pub(super) fn check(request: Item<'_>, fields: &[Field]) -> Result<(), Fault> {
    if !matches!(request.node(), Node::Map { .. }) {
        return Err(Fault::new(Error::Serialization, "Start of structure or map expected"));
    }
    check_kinds(request, fields)?;
    let mut failures = Failures(Vec::new());
    failures.structure(request, fields, &Path::Root);
    let Failures(told) = failures;
    if told.is_empty() {
        return Ok(());
    }
    let plural = if told.len() > 1 { "s" } else { "" };
    let text = format!("{} validation error{plural} detected: {}", told.len(), told.join("; "));
    Err(Fault::new(Error::Validation, text))
}

fn check_kinds(map: Item<'_>, fields: &[Field]) -> Result<(), Fault> {
    for (key, value) in map.entries() {
        if let Some(field) = fields.iter().find(|f| f.name == key) {
            check_kind(value, &field.rule)?;
        }
    }
    Ok(())
}

fn check_kind(value: Item<'_>, rule: &Rule) -> Result<(), Fault> {
    let refuse = |text: &str| Err(Fault::new(Error::Serialization, text));
    let node = value.node();
    let (scalar, name) = match rule.kind {
        Kind::Bool => (matches!(node, Node::Bool(_)), "an Boolean"),
        Kind::Integer => (matches!(node, Node::Integer(_) | Node::Real(_)), "an Integer"),
        Kind::Text => (matches!(node, Node::Text(_)), "an String"),
        Kind::Blob => (matches!(node, Node::Text(_) | Node::Blob(_)), "a Blob"),
        Kind::Time => {
            (matches!(node, Node::Time(_) | Node::Integer(_) | Node::Real(_)), "milliseconds since epoch")
        }
        Kind::List(_) => (false, "list"),
        Kind::Tags => (false, "map"),
        Kind::Structure(_) => (false, ""),
    };
    match (rule.kind, node) {
        (_, Node::Null) => Ok(()),
        (Kind::List(of), Node::List { .. }) => value.items().try_for_each(|item| check_kind(item, of)),
        (Kind::Tags, Node::Map { .. }) => {
            value.entries().try_for_each(|(_, item)| check_kind(item, &Rule::text()))
        }
        (Kind::Structure(fields), Node::Map { .. }) => check_kinds(value, fields),
        _ if scalar => Ok(()),
        (_, Node::List { .. }) => refuse("Start of list found where not expected"),
        (_, Node::Map { .. }) => refuse("Start of structure or map found where not expected."),
        (Kind::List(_) | Kind::Tags, _) => refuse(&format!("Expected {name} or null")),
        (Kind::Structure(_), _) => refuse("Expected null"),
        (_, node) => refuse(&format!("{} can not be converted to {name}", class(node))),
    }
}

/// The class by which the service's own words call a value.
fn class(node: &Node<'_>) -> &'static str {
    match node {
        Node::Bool(_) => "class java.lang.Boolean",
        Node::Text(_) => "class java.lang.String",
        Node::Blob(_) => "class java.nio.HeapByteBuffer",
        _ => "class com.amazon.coral.value.json.numbers.TruncatingBigNumber",
    }
}

/// Where a value stands, told only when something is wrong with it.
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Element(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn write(&self, out: &mut String) {
        let (above, step): (_, Cow<'_, str>) = match self {
            Self::Root => return,
            Self::Field(above, name) => {
                let mut chars = name.chars();
                let first = chars.next().map(|c| c.to_ascii_lowercase());
                (above, first.into_iter().chain(chars).collect())
            }
            Self::Element(above, index) => (above, format!("{}.member", index + 1).into()),
        };
        above.write(out);
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(&step);
    }
}

struct Failures(Vec<String>);

impl Failures {
    fn structure(&mut self, map: Item<'_>, fields: &[Field], path: &Path<'_>) {
        // The keys that are there are looked up once; what is required and not among them is absent.
        let mut present = 0u64;
        for (key, value) in map.entries() {
            let Some((at, field)) = fields.iter().enumerate().find(|(_, f)| f.name == key) else { continue };
            if !matches!(value.node(), Node::Null) {
                present |= 1 << at;
                self.value(value, &field.rule, &Path::Field(path, field.name));
            }
        }
        for (at, field) in fields.iter().enumerate() {
            if field.required && present & (1 << at) == 0 {
                self.tell("null", &Path::Field(path, field.name), "Member must not be null");
            }
        }
    }

    fn value(&mut self, value: Item<'_>, rule: &Rule, path: &Path<'_>) {
        self.bounds(value, rule, path);
        if let (Some(pattern), Some(text)) = (rule.pattern, value.as_text())
            && !pattern.matches(text)
        {
            let why = format!("Member must satisfy regular expression pattern: {}", pattern.text());
            self.tell(&quoted(value), path, &why);
        }
        if let Some(text) = value.as_text()
            && !rule.values.is_empty()
            && !rule.values.contains(&text)
        {
            let why = format!("Member must satisfy enum value set: [{}]", rule.values.join(", "));
            self.tell(&quoted(value), path, &why);
        }
        match rule.kind {
            Kind::List(of) => {
                for (index, item) in value.items().enumerate() {
                    self.value(item, of, &Path::Element(path, index));
                }
            }
            Kind::Tags => self.tags(value, path),
            Kind::Structure(fields) => self.structure(value, fields, path),
            Kind::Bool | Kind::Integer | Kind::Text | Kind::Blob | Kind::Time => {}
        }
    }

    fn bounds(&mut self, value: Item<'_>, rule: &Rule, path: &Path<'_>) {
        if rule.min.is_none() && rule.max.is_none() {
            return;
        }
        let (what, size) = match rule.kind {
            Kind::Integer => ("value", value.as_integer().unwrap_or_default()),
            _ => ("length", length(value, rule.kind)),
        };
        let short = rule.min.filter(|min| size < *min).map(|min| (min, "greater"));
        let long = rule.max.filter(|max| size > *max).map(|max| (max, "less"));
        if let Some((bound, side)) = short.or(long) {
            // Records are not repeated.
            let of_records = matches!(rule.kind, Kind::List(Rule { kind: Kind::Structure(_), .. }));
            let shown = if of_records { String::new() } else { quoted(value) };
            self.tell(&shown, path, &format!("Member must have {what} {side} than or equal to {bound}"));
        }
    }

    /// Keys of 1 to 128 and values of up to 256 characters.
    fn tags(&mut self, value: Item<'_>, path: &Path<'_>) {
        let constraint = |what: &str, max: i64, min: i64| {
            format!(
                "Map {what} must satisfy constraint: [Member must have length less than or equal to {max}, \
                 Member must have length greater than or equal to {min}]"
            )
        };
        if value.entries().any(|(key, _)| !(1..=128).contains(&chars(key))) {
            self.tell(&quoted(value), path, &constraint("keys", 128, 1));
        }
        if value.entries().any(|(_, text)| text.as_text().is_some_and(|t| chars(t) > 256)) {
            self.tell(&quoted(value), path, &constraint("value", 256, 0));
        }
    }

    fn tell(&mut self, shown: &str, path: &Path<'_>, why: &str) {
        if self.0.len() < FAILURES_MAX {
            let mut place = String::new();
            path.write(&mut place);
            let blank = if shown.is_empty() { "" } else { " " };
            self.0.push(format!("Value{blank}{shown} at '{place}' failed to satisfy constraint: {why}"));
        }
    }
}

fn chars(text: &str) -> i64 {
    // The service counts UTF-16 units, as Java does.
    let count = if text.is_ascii() { text.len() } else { text.encode_utf16().count() };
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn length(value: Item<'_>, kind: Kind) -> i64 {
    let count = match (kind, value.node()) {
        (Kind::Blob, Node::Text(text)) => {
            let padding = text.bytes().rev().take_while(|b| *b == b'=').count().min(2);
            (text.len() / 4 * 3).saturating_sub(padding)
        }
        (_, Node::Text(text)) => return chars(text),
        (_, Node::Blob(bytes)) => bytes.len(),
        (_, Node::List { .. }) => value.items().count(),
        (_, Node::Map { .. }) => value.entries().count(),
        _ => 0,
    };
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A value in quotes, as a failure shows it.
fn quoted(value: Item<'_>) -> String {
    let mut text = String::from("'");
    show(value, &mut text);
    if text.len() > SHOWN_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
        text.push_str("...");
    }
    text.push('\'');
    text
}

fn show(value: Item<'_>, out: &mut String) {
    if out.len() > SHOWN_BYTES_MAX {
        return;
    }
    // Writing to a string does not fail.
    let _ = match value.node() {
        Node::Null => write!(out, "null"),
        Node::Bool(value) => write!(out, "{value}"),
        Node::Integer(value) => write!(out, "{value}"),
        Node::Real(value) => write!(out, "{value}"),
        Node::Text(text) => {
            write!(out, "{}", text.get(..text.floor_char_boundary(SHOWN_BYTES_MAX + 8)).unwrap_or(text))
        }
        Node::Blob(bytes) => write!(out, "java.nio.HeapByteBuffer[pos=0 lim={0} cap={0}]", bytes.len()),
        Node::Time(ms) => write!(out, "{ms}"),
        Node::List { .. } => {
            out.push('[');
            for (index, item) in value.items().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                show(item, out);
            }
            write!(out, "]")
        }
        Node::Map { .. } => {
            out.push('{');
            for (index, (key, item)) in value.entries().enumerate() {
                let _ = write!(out, "{}{key}=", if index > 0 { ", " } else { "" });
                show(item, out);
            }
            write!(out, "}}")
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::json;

    const RECORD: Rule = Rule::structure(&[
        Field::blob("Data").required().between(0, 10),
        Field::text("PartitionKey").between(1, 5),
    ]);
    const FIELDS: &[Field] = &[
        Field::text("StreamName").between(1, 8).pattern(Pattern::Name),
        Field::integer("ShardCount").at_least(1),
        Field::text("Mode").one_of(&["A", "B"]),
        Field::list("Records", &RECORD).between(1, 2),
        Field::tags("Tags").between(1, 2),
        Field::bool("Flag"),
    ];

    fn outcome(body: &str) -> String {
        let document = json::parse(body.as_bytes()).unwrap();
        check(document.root(), FIELDS)
            .map_or_else(|f| format!("{} {}", f.kind.name(), f.message), |()| "ok".into())
    }

    #[test]
    fn a_good_request_passes_and_what_nobody_knows_is_ignored() {
        assert_eq!(
            outcome(
                r#"{"StreamName":"a.b","ShardCount":2,"Records":[{"Data":"YQ=="}],"Other":[1],"Mode":null}"#
            ),
            "ok"
        );
    }

    #[test]
    fn kinds_are_told_in_the_words_of_the_service() {
        assert_eq!(
            outcome(r#"{"ShardCount":"2"}"#),
            "SerializationException class java.lang.String can not be converted to an Integer"
        );
        assert_eq!(
            outcome(r#"{"StreamName":[]}"#),
            "SerializationException Start of list found where not expected"
        );
        assert_eq!(outcome(r#"{"Records":1}"#), "SerializationException Expected list or null");
        assert_eq!(outcome("[]"), "SerializationException Start of structure or map expected");
    }

    #[test]
    fn constraints_are_told_with_value_and_place() {
        assert_eq!(
            outcome(r#"{"StreamName":"a b","ShardCount":0}"#),
            "ValidationException 2 validation errors detected: Value 'a b' at 'streamName' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value '0' at 'shardCount' failed to satisfy \
             constraint: Member must have value greater than or equal to 1"
        );
        assert_eq!(
            outcome(r#"{"Records":[{"Data":"YQ==","PartitionKey":""},{}]}"#),
            "ValidationException 2 validation errors detected: Value '' at 'records.1.member.partitionKey' failed to satisfy \
             constraint: Member must have length greater than or equal to 1; Value null at 'records.2.member.data' failed to \
             satisfy constraint: Member must not be null"
        );
        assert_eq!(
            outcome(r#"{"Records":[]}"#),
            "ValidationException 1 validation error detected: Value at 'records' failed to satisfy constraint: \
             Member must have length greater than or equal to 1"
        );
        assert!(outcome(r#"{"Mode":"C"}"#).ends_with("Member must satisfy enum value set: [A, B]"));
        assert!(
            outcome(&format!(r#"{{"Tags":{{"{}":""}}}}"#, "k".repeat(129)))
                .contains("Map keys must satisfy constraint")
        );
    }

    #[test]
    fn an_answer_does_not_repeat_megabytes() {
        assert!(outcome(&format!(r#"{{"StreamName":"{}"}}"#, "x".repeat(1 << 20))).len() < 4096);
    }

    #[test]
    fn patterns_match_whole_texts() {
        use Pattern as P;
        for (pattern, text, expected) in [
            (P::HashKey, "0", true),
            (P::HashKey, "01", false),
            (P::HashKey, "340282366920938463463374607431768211456", true),
            (P::HashKey, "-1", false),
            (P::SequenceNumber, "", false),
            (P::StreamArn, "arn:aws:kinesis:us-east-1:123456789012:stream/a", true),
            (P::StreamArn, "arn:aws:kinesis:us-east-1:123456789012:stream/", false),
            (P::StreamArn, "arn:aws:kinesis:us-east-1:12345678901:stream/a", false),
            (P::ConsumerArn, "arn:aws:kinesis:us-east-1:123456789012:stream/a/consumer/b:1", true),
            (P::ConsumerArn, "arn:aws:kinesis:us-east-1:123456789012:stream/a/consumer/b", false),
            (P::ResourceArn, "arn:aws-cn:kinesis:x:123456789012:stream/a/consumer/b:1", true),
            (P::StreamId, "abcdefghij0123456789-abc", true),
            (P::Name, "a/b", false),
        ] {
            assert_eq!(pattern.matches(text), expected, "{pattern:?} {text}");
        }
    }
}
