//! Request schemas of opening a connection: versions, login, telemetry, every version that Kafka 3.9 or 4.4 reads.
//!
//! Invariant: fields stand in wire order; the vocabulary is in `field.rs`.
//! Deliberately absent: responses, defaults, and what a field means.
//! Source: the message definitions (`common/message/*Request.json`) of kafka-clients 3.9.1 and 4.4.0.

use crate::kafka::schema::field::{Api, NEVER, boolean, bytes, int8, int32, string, uuid};

pub(super) static SASL_HANDSHAKE: Api =
    Api { key: 17, name: "SaslHandshake", versions: 0..=1, flexible: NEVER, fields: &[string("mechanism")] };

pub(super) static API_VERSIONS: Api = Api {
    key: 18,
    name: "ApiVersions",
    versions: 0..=5,
    flexible: 3,
    fields: &[
        string("client_software_name").since(3),
        string("client_software_version").since(3),
        string("cluster_id").since(5).null_from(5),
        int32("node_id").since(5),
    ],
};

pub(super) static SASL_AUTHENTICATE: Api =
    Api { key: 36, name: "SaslAuthenticate", versions: 0..=2, flexible: 2, fields: &[bytes("auth_bytes")] };

pub(super) static GET_TELEMETRY_SUBSCRIPTIONS: Api = Api {
    key: 71,
    name: "GetTelemetrySubscriptions",
    versions: 0..=0,
    flexible: 0,
    fields: &[uuid("client_instance_id")],
};

pub(super) static PUSH_TELEMETRY: Api = Api {
    key: 72,
    name: "PushTelemetry",
    versions: 0..=0,
    flexible: 0,
    fields: &[
        uuid("client_instance_id"),
        int32("subscription_id"),
        boolean("terminating"),
        int8("compression_type"),
        bytes("metrics"),
    ],
};
