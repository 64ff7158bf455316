//! Environment variables as configuration, the way the `apache/kafka` image reads them.
//!
//! Owns: the mapping of a variable's name to a key. `KAFKA_` (or Bitnami's `KAFKA_CFG_`) is dropped, the
//! rest is lower-cased, `_` becomes `.`, `__` becomes `_`, `___` becomes `-` (KafkaDockerWrapper.scala).
//! Deliberately absent: expansion. A value that looks like `$OTHER` stays as it is.
//!
//! One difference: in that image a single variable drops all packaged defaults; here each variable
//! replaces one value.

/// The key that a variable names; `None` for one that is not configuration.
#[must_use]
pub fn key(variable: &str) -> Option<String> {
    if NOT_KEYS.contains(&variable) || NOT_KEY_PREFIXES.iter().any(|prefix| variable.starts_with(prefix)) {
        return None;
    }
    let rest = variable.strip_prefix("KAFKA_CFG_").or_else(|| variable.strip_prefix("KAFKA_"))?;
    (!rest.is_empty()).then(|| translate(rest))
}

fn translate(rest: &str) -> String {
    let mut key = String::with_capacity(rest.len());
    let mut bars = 0;
    for c in rest.chars().map(Some).chain([None]) {
        if c == Some('_') {
            bars += 1;
            continue;
        }
        key.push_str(match std::mem::take(&mut bars) {
            0 => "",
            1 => ".",
            2 => "_",
            _ => "-",
        });
        key.extend(c.iter().flat_map(|c| c.to_lowercase()));
    }
    key
}

/// Settings of the Java virtual machine and of the image's scripts.
const NOT_KEYS: &[&str] = &[
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_HOME",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_OPTS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_VERSION",
];

/// Kubernetes and container links put these into every pod beside a service named `kafka`.
const NOT_KEY_PREFIXES: &[&str] = &["KAFKA_SERVICE_", "KAFKA_PORT"];

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn bars_become_dots_underscores_and_dashes() {
        for (variable, expected) in [
            ("KAFKA_NUM_PARTITIONS", Some("num.partitions")),
            ("KAFKA_CFG_NODE_ID", Some("node.id")),
            ("KAFKA_A__B", Some("a_b")),
            (
                "KAFKA_LISTENER_NAME_SECURE_SCRAM-SHA-256_SASL_JAAS_CONFIG",
                Some("listener.name.secure.scram-sha-256.sasl.jaas.config"),
            ),
            ("KAFKA_X___Y", Some("x-y")),
            ("KAFKA_HEAP_OPTS", None),
            ("KAFKA_SERVICE_HOST", None),
            ("KAFKA_PORT_9092_TCP_ADDR", None),
            ("KAFKA_", None),
            ("PATH", None),
        ] {
            assert_eq!(key(variable).as_deref(), expected, "{variable}");
        }
    }
}
