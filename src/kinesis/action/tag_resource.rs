//! TagResource: adds or replaces tags of a stream or a consumer, at most 50 in all.

use std::collections::BTreeMap;

use super::{Answer, Context, Fault, Field, Item};
use crate::kinesis::shape::Pattern;
use crate::kinesis::stream::{Consumer, STREAM_ID, Traits};

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
    let added = tags_of(request);
    cx.shared.streams.change(&stream, |traits| add(tags_in(traits, consumer.as_ref())?, added)).await?;
    Ok(Context::done())
}

/// The tags of a stream, or of one of its consumers.
pub(super) fn tags_in<'t>(
    traits: &'t mut Traits,
    consumer: Option<&Consumer>,
) -> Result<&'t mut BTreeMap<String, String>, Fault> {
    let Some(Consumer { name, .. }) = consumer else { return Ok(&mut traits.tags) };
    let found = traits.consumers.iter_mut().find(|c| c.name == *name);
    found.map(|c| &mut c.tags).ok_or_else(|| Fault::not_found(format!("Consumer {name} not found.")))
}

pub(super) fn tags_of(request: Item<'_>) -> BTreeMap<String, String> {
    let entries = request.field("Tags").into_iter().flat_map(Item::entries);
    entries.filter_map(|(key, value)| Some((key.to_owned(), value.as_text()?.to_owned()))).collect()
}

pub(super) fn add(tags: &mut BTreeMap<String, String>, added: BTreeMap<String, String>) -> Result<(), Fault> {
    tags.extend(added);
    if tags.len() > TAGS_MAX {
        return Err(Fault::invalid(format!("A resource cannot have more than {TAGS_MAX} tags.")));
    }
    Ok(())
}
