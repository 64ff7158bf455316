//! TagResource: adds or replaces tags of a stream or a consumer, at most 50 in all.

use std::collections::BTreeMap;

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{Consumer, STREAM_ID, Traits};

/// A list of all of them.
pub(super) const ROOM: usize = 96 * 1024;
/// Most tags of one resource.
const TAGS_MAX: usize = 50;

pub(super) const RESOURCE_ARN: Field =
    Field::text("ResourceARN").required().between(1, 2048).pattern(Pattern::ResourceArn);
pub(super) const FIELDS: &[Field] =
    &[RESOURCE_ARN, STREAM_ID, Field::tags("Tags").required().between(1, 200)];

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let arn = request.text("ResourceARN").unwrap_or_default();
    let (stream, consumer) = cx.shared.streams.by_resource(arn, cx.region)?;
    stream.settled(cx.now_ms)?;
    let added = tags_of(request)?;
    cx.shared.streams.change(&stream, |traits| add(tags_in(traits, consumer.as_ref())?, added)).await?;
    Ok(Context::done())
}

/// The tags of a stream, or of one of its consumers.
pub(super) fn tags_in<'t>(
    traits: &'t mut Traits,
    consumer: Option<&Consumer>,
) -> Result<&'t mut BTreeMap<String, String>, Fault> {
    let Some(consumer) = consumer else { return Ok(&mut traits.tags) };
    Ok(&mut traits.kept_of(consumer)?.tags)
}

/// The tags of a request.
///
/// # Errors
/// `InvalidArgumentException` for characters and keys that are not taken.
pub(super) fn tags_of(request: Item<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let entries = request.field("Tags").into_iter().flat_map(Item::entries);
    let tags = entries.map(|(key, value)| {
        let value = value.as_text().unwrap_or_default();
        check_key(key)?;
        check_characters(value)?;
        Ok((key.to_owned(), value.to_owned()))
    });
    tags.collect()
}

/// Refuses a key that no tag may have.
///
/// # Errors
/// `InvalidArgumentException`.
pub(super) fn check_key(key: &str) -> Result<(), Fault> {
    if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
        return Err(Fault::invalid("Tag keys that start with aws: are reserved for the service."));
    }
    check_characters(key)
}

fn check_characters(text: &str) -> Result<(), Fault> {
    let valid = |c: char| c.is_alphanumeric() || c == ' ' || "_./=+-%@:".contains(c);
    let white = |c: char| c.is_whitespace() && !c.is_control();
    if text.chars().all(|c| valid(c) || white(c)) {
        return Ok(());
    }
    Err(Fault::invalid(
        "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @ :.",
    ))
}

pub(super) fn add(tags: &mut BTreeMap<String, String>, added: BTreeMap<String, String>) -> Result<(), Fault> {
    tags.extend(added);
    if tags.len() > TAGS_MAX {
        return Err(Fault::invalid(format!("A resource cannot have more than {TAGS_MAX} tags.")));
    }
    Ok(())
}
