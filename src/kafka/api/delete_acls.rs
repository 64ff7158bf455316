//! DeleteAcls (key 31), versions 1-3, flexible from 2.
//!
//! Behaviour: SECURITY_DISABLED (54) for each filter, as Apache Kafka answers without an authorizer.
//!
//! - v1: pattern types (KIP-290). v2: flexible. v3: user resources (KIP-373).
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::delete_acls_request::DeleteAclsRequest;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply};
use crate::kafka::error::Code;

pub(super) struct DeleteAcls;

impl Api for DeleteAcls {
    type Request = DeleteAclsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=3;

    fn answer(_: &mut Context<'_>, _: i16, request: DeleteAclsRequest) -> Reply<DeleteAclsResponse> {
        let why = StrBytes::from_static_str("No Authorizer is configured.");
        let refused = DeleteAclsFilterResult::default()
            .with_error_code(Code::SECURITY_DISABLED.0)
            .with_error_message(Some(why));
        Reply::Now(DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()]))
    }
}
