//! DeregisterStreamConsumer: the consumer is gone when it returns, and its subscriptions end.

use super::describe_stream_consumer::find;
use super::{Answer, Context, Fault, Field, Item};

pub(super) const FIELDS: &[Field] = super::describe_stream_consumer::FIELDS;

pub(super) async fn answer(cx: &Context<'_>, request: Item<'_>) -> Result<Answer, Fault> {
    let (stream, consumer) = find(cx, request)?;
    cx.admit(stream.topic.id(), "")?;
    cx.shared.streams.change(&stream, |traits| traits.deregister(&consumer)).await?;
    cx.shared.subscriptions.end(stream.topic.id(), &consumer);
    Ok(Context::done())
}
