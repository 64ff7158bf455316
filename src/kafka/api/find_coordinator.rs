//! FindCoordinator (key 10), versions 0-6, flexible from 3.
//!
//! Behaviour: this node coordinates all groups. The groups' journal exists before a client is sent to it. There are no
//! transactions yet: who looks for their coordinator is refused here, with words, and the log names the client.
//! Java prints the words of INVALID_REQUEST. librdkafka, which stops at v2, repeats whatever is not
//! TRANSACTIONAL_ID_AUTHORIZATION_FAILED for ever, and prints the words with that.
//!
//! - v1: key types (0 group, 1 transaction), error message (KIP-98). v3: flexible.
//! - v4: many keys at once (KIP-699). v5: 90 is a possible error. v6: key type 2, share groups (KIP-932).
//!
//! Known deviations from Apache Kafka: share groups are refused with INVALID_REQUEST until they are built; the message of no
//! error is empty in v1-3, not "NONE".

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply, refuse_transaction};
use crate::kafka::error::{self, Code};

pub(super) struct FindCoordinator;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// First version with many keys at once, which no librdkafka asks for.
const MANY_FROM: i16 = 4;

impl Api for FindCoordinator {
    type Request = FindCoordinatorRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    fn answer(
        cx: &mut Context<'_>,
        version: i16,
        request: FindCoordinatorRequest,
    ) -> Reply<FindCoordinatorResponse> {
        let (host, port) = cx.core.advertised(cx.listener, cx.local);
        let here = Coordinator::default()
            .with_node_id(BrokerId(cx.core.node_id()))
            .with_host(StrBytes::from_string(host))
            .with_port(i32::from(port));
        if request.key_type == TRANSACTION {
            refuse_transaction(cx);
        }
        let core = Arc::clone(cx.core);
        Reply::alone(async move {
            let code = match request.key_type {
                GROUP => core.prepare_groups().await.map_or_else(|e| error::of_topic(&e), |()| Code::NONE),
                TRANSACTION if version < MANY_FROM => Code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                _ => Code::INVALID_REQUEST,
            };
            let found = if code == Code::NONE { here } else { nowhere(code, request.key_type) };
            if version < MANY_FROM {
                return single(version, found);
            }
            let coordinators =
                request.coordinator_keys.into_iter().map(|key| found.clone().with_key(key)).collect();
            FindCoordinatorResponse::default().with_coordinators(coordinators)
        })
    }
}

fn nowhere(code: Code, key_type: i8) -> Coordinator {
    let why = match key_type {
        GROUP => "the journal of groups is not available",
        TRANSACTION => "this broker has no transactions yet",
        SHARE => "share groups are not served",
        _ => "no coordinator for this key type",
    };
    Coordinator::default()
        .with_node_id(BrokerId(-1))
        .with_port(-1)
        .with_error_code(code.0)
        .with_error_message(Some(StrBytes::from_static_str(why)))
}

fn single(version: i16, found: Coordinator) -> FindCoordinatorResponse {
    let message = if version >= 1 { found.error_message } else { None };
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}
