//! CreateAcls (key 30), versions 1-3, flexible from 2.
//!
//! Behaviour: SECURITY_DISABLED (54) for each, as Apache Kafka answers without an authorizer: nobody may believe that
//! something is protected now.
//!
//! - v1: pattern types (KIP-290). v2: flexible. v3: user resources (KIP-373).
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::create_acls_request::CreateAclsRequest;
use kafka_protocol::messages::create_acls_response::{AclCreationResult, CreateAclsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply};
use crate::kafka::error::Code;

pub(super) struct CreateAcls;

impl Api for CreateAcls {
    type Request = CreateAclsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=3;

    fn answer(_: &mut Context<'_>, _: i16, request: CreateAclsRequest) -> Reply<CreateAclsResponse> {
        let why = StrBytes::from_static_str("No Authorizer is configured.");
        let refused = AclCreationResult::default()
            .with_error_code(Code::SECURITY_DISABLED.0)
            .with_error_message(Some(why));
        Reply::Now(CreateAclsResponse::default().with_results(vec![refused; request.creations.len()]))
    }
}
