//! DescribeAcls (key 29), versions 1-3, flexible from 2.
//!
//! Behaviour: SECURITY_DISABLED (54), as Apache Kafka answers without an authorizer. Tools (MirrorMaker 2, Kafdrop,
//! kafkactl, topicctl) take that for "there are no ACLs"; without the API they give up.
//!
//! - v1: pattern types (KIP-290). v2: flexible. v3: user resources (KIP-373).
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::describe_acls_request::DescribeAclsRequest;
use kafka_protocol::messages::describe_acls_response::DescribeAclsResponse;
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply};
use crate::kafka::error::Code;

pub(super) struct DescribeAcls;

impl Api for DescribeAcls {
    type Request = DescribeAclsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=3;

    fn answer(_: &mut Context<'_>, _: i16, _: DescribeAclsRequest) -> Reply<DescribeAclsResponse> {
        let why = StrBytes::from_static_str("No Authorizer is configured on the broker");
        Reply::Now(
            DescribeAclsResponse::default()
                .with_error_code(Code::SECURITY_DISABLED.0)
                .with_error_message(Some(why)),
        )
    }
}
