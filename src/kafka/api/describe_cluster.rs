//! DescribeCluster (key 60), versions 0-2, flexible from 0.
//!
//! Behaviour: one broker, which is also the controller, under the address that this client is to use.
//!
//! - v0: KIP-700. v1: endpoint type (KIP-919); only brokers are described here.
//! - v2: fenced brokers (KIP-1073); there are none.
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use kafka_protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply, operations};
use crate::kafka::error::{Code, Refused};

pub(super) struct DescribeCluster;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

impl Api for DescribeCluster {
    type Request = DescribeClusterRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: DescribeClusterRequest,
    ) -> Reply<DescribeClusterResponse> {
        let response = DescribeClusterResponse::default();
        if request.endpoint_type != BROKERS {
            let refused = if request.endpoint_type == CONTROLLERS {
                Refused::new(Code::MISMATCHED_ENDPOINT_TYPE, "this is a broker, not a controller")
            } else {
                Refused::new(Code::UNSUPPORTED_ENDPOINT_TYPE, "unknown endpoint type")
            };
            return Reply::Now(
                response.with_error_code(refused.code.0).with_error_message(refused.message()),
            );
        }
        let (host, port) = cx.core.advertised(cx.listener, cx.local);
        let node = BrokerId(cx.core.node_id());
        let broker = DescribeClusterBroker::default()
            .with_broker_id(node)
            .with_host(StrBytes::from_string(host))
            .with_port(i32::from(port))
            .with_rack(cx.core.config().identity().rack.map(StrBytes::from_string));
        let may = operations::when(request.include_cluster_authorized_operations, operations::CLUSTER);
        Reply::Now(
            response
                .with_cluster_id(StrBytes::from_string(cx.core.cluster_id().to_owned()))
                .with_controller_id(node)
                .with_brokers(vec![broker])
                .with_cluster_authorized_operations(may),
        )
    }
}
