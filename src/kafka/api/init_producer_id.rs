//! InitProducerId (key 22), versions 0-5, flexible from 2.
//!
//! Behaviour: without a transactional id, always a producer id that was never given before (also not before a
//! restart), epoch 0; a producer id in the request does not matter then, as in Apache Kafka.
//!
//! - v0: KIP-98. v1: throttling happens after the response (KIP-219). v2: flexible.
//! - v3: producer id and epoch, to bump the epoch of a transactional producer (KIP-360).
//! - v4: PRODUCER_FENCED may be answered (KIP-588). v5: TRANSACTION_ABORTABLE may be answered (KIP-890).
//!
//! Known deviations from Apache Kafka: there are no transactions yet, so that every transactional id is
//! answered with INVALID_REQUEST (clients learn why from FindCoordinator, before they come here).

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::ProducerId;
use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::init_producer_id_response::InitProducerIdResponse;

use super::{Api, Context, Reply, refuse_transaction};
use crate::kafka::error::{self, Code};

pub(super) struct InitProducerId;

impl Api for InitProducerId {
    type Request = InitProducerIdRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: InitProducerIdRequest,
    ) -> Reply<InitProducerIdResponse> {
        if let Some(code) = refusal(cx, &request) {
            return Reply::Now(refused(code));
        }
        let core = Arc::clone(cx.core);
        Reply::phased(async move {
            match core.next_producer_id().await {
                Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)),
                Err(error) => refused(error::of_topic(&error)),
            }
        })
    }
}

fn refused(code: Code) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code.0)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

fn refusal(cx: &Context<'_>, request: &InitProducerIdRequest) -> Option<Code> {
    // Id and epoch come together or not at all.
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return Some(Code::INVALID_REQUEST);
    }
    let transactional_id = request.transactional_id.as_ref()?;
    let limit =
        cx.core.config().value("transaction.max.timeout.ms").and_then(|text| text.trim().parse().ok());
    Some(if transactional_id.is_empty() {
        Code::INVALID_REQUEST
    } else if !(1..=limit.unwrap_or(i32::MAX)).contains(&request.transaction_timeout_ms) {
        Code::INVALID_TRANSACTION_TIMEOUT
    } else {
        refuse_transaction(cx);
        Code::INVALID_REQUEST
    })
}
