//! Laws of the configuration: precedence, refusals, sources, listeners.

use super::*;

fn config(pairs: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    config.set_all(pairs.iter().copied(), Source::File).unwrap();
    config
}

#[test]
fn the_tables_are_sorted_disjoint_and_every_default_passes_its_own_check() {
    let mut names: Vec<_> = keys::all().map(|key| key.name).collect();
    assert!(KEYS.iter().all(|list| list.is_sorted_by(|a, b| a.name < b.name)));
    for key in keys::all() {
        if let Some(default) = key.default {
            assert_eq!(Config::judge(key.name, default, Source::File).map(drop), Ok(()), "{}", key.name);
        }
        assert!(keys::find(key.name).is_some_and(|found| found.name == key.name));
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), keys::all().count());
}

#[test]
fn every_broker_key_that_a_topic_defaults_to_is_in_the_table_and_agrees_with_it() {
    let broker = Config::default();
    for key in crate::topic::config::KEYS {
        for (name, _) in key.broker_keys {
            assert!(keys::find(name).is_some(), "{name}");
        }
    }
    let lookup = |name: &str| broker.value(name).map(str::to_owned);
    let read = crate::topic::config::TopicConfig::from_overrides(&lookup, &BTreeMap::new()).unwrap();
    assert_eq!(read, crate::topic::config::TopicConfig::default());
}

#[test]
fn a_stronger_source_wins_and_unsetting_it_brings_the_weaker_back() {
    let mut config = Config::default();
    let sources =
        [Source::File, Source::Environment, Source::CommandLine, Source::DynamicDefault, Source::Dynamic];
    for (at, &source) in sources.iter().enumerate().rev() {
        config.set("message.max.bytes", &at.to_string(), source).unwrap();
        assert_eq!(config.set_value("message.max.bytes"), Some((Source::Dynamic, "4")));
    }
    for (at, &source) in sources.iter().enumerate().rev() {
        assert_eq!(config.set_value("message.max.bytes"), Some((source, at.to_string().as_str())));
        assert!(config.unset("message.max.bytes", source));
    }
    assert_eq!(config.value("message.max.bytes"), Some("1048588"));
    assert_eq!(config.source("message.max.bytes"), Source::Default);
    assert_eq!(config, Config::default());
}

#[test]
fn a_bad_value_is_refused_and_changes_nothing() {
    let mut config = Config::default();
    for (key, value) in [
        ("num.partitions", "0"),
        ("num.partitions", "x"),
        ("flush", "sometimes"),
        ("listeners", "localhost:9092"),
        ("advertised.listeners", "PLAINTEXT://host"),
        ("listener.security.protocol.map", "A:NONE"),
    ] {
        let refusal = config.set(key, value, Source::CommandLine).unwrap_err();
        let words = format!("Invalid value {value} for configuration {key}: ");
        assert!(refusal.to_string().starts_with(&words), "{refusal}");
    }
    assert_eq!(config, Config::default());
}

#[test]
fn while_running_only_dynamic_keys_change_and_unknown_ones_are_refused() {
    let mut config = Config::default();
    assert!(config.set("num.partitions", "2", Source::Dynamic).is_err());
    assert!(config.set("no.such.key", "2", Source::Dynamic).is_err());
    assert_eq!(config.set("log.retention.ms", "5", Source::Dynamic), Ok(Accepted::Applied));
    assert!(matches!(config.set("log.cleaner.threads", "2", Source::Dynamic), Ok(Accepted::NoEffect(_))));
    assert_eq!(config.said_by(Source::Dynamic).count(), 2);
}

#[test]
fn a_secret_is_never_described_nor_shown_in_a_refusal() {
    let described = config(&[("ssl.key.password", "hunter2")]).describe_key("ssl.key.password").unwrap();
    assert!(described.sensitive);
    assert_eq!(described.value, None);
    assert!(described.synonyms.iter().all(|(_, text)| text.is_empty()));
    let refusal = Config::judge("ssl.keystore.password", "hunter2", Source::Dynamic);
    assert!(!format!("{refusal:?}").contains("hunter2"));
}

#[test]
fn describe_tells_value_source_and_synonyms() {
    let mut config = config(&[("num.io.threads", "3")]);
    config.set("num.io.threads", "4", Source::Dynamic).unwrap();
    let described = config.describe_key("num.io.threads").unwrap();
    assert_eq!((described.value.as_deref(), described.source), (Some("4"), Source::Dynamic));
    let order: Vec<_> = described.synonyms.iter().map(|(source, text)| (*source, text.as_str())).collect();
    assert_eq!(order, [(Source::Dynamic, "4"), (Source::File, "3"), (Source::Default, "8")]);
    assert_eq!(config.describe().len(), keys::all().count());
    config.set("listeners", "PLAINTEXT://127.0.0.1:9092", Source::Default).unwrap();
    let moved = config.describe_key("listeners").unwrap();
    assert_eq!((moved.source, moved.synonyms.len()), (Source::Default, 1));
}

#[test]
fn every_setting_reads_at_its_default_and_at_the_extremes_of_its_key() {
    let read = |config: &Config| {
        let _ = (config.identity(), config.store_settings(), config.topic_settings());
        let _ = (config.group_settings(), config.connection_settings());
    };
    read(&Config::default());
    for key in keys::all().filter(|key| key.effect == Effect::Applied) {
        for extreme in ["-9223372036854775808", "-1", "0", "1", "32767", "2147483647", "9223372036854775807"]
        {
            let mut config = Config::default();
            if config.set(key.name, extreme, Source::File).is_ok() {
                read(&config);
            }
        }
    }
    assert_eq!(Config::default().identity().node_id, 1);
    assert_eq!(config(&[("broker.id", "7")]).identity().node_id, 7);
    assert_eq!(config(&[("broker.id", "7"), ("node.id", "0")]).identity().node_id, 0);
}

#[test]
fn variables_are_read_and_a_value_is_never_expanded() {
    let mut config = Config::default();
    let vars = [("KAFKA_BROKER_RACK", "$HOME"), ("PATH", "/bin"), ("KAFKA_HEAP_OPTS", "-Xmx1G")];
    config.read_environment(vars.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap();
    assert_eq!(config.set_value("broker.rack"), Some((Source::Environment, "$HOME")));
    assert_eq!(config.said_by(Source::Environment).count(), 1);
}

#[test]
fn the_first_directory_of_log_dirs_is_the_data_directory() {
    assert_eq!(Config::default().data_dir(), None);
    assert_eq!(config(&[("log.dir", "/a")]).data_dir(), Some("/a".into()));
    assert_eq!(config(&[("log.dir", "/a"), ("log.dirs", "/b, /c")]).data_dir(), Some("/b".into()));
}

#[test]
fn listeners_as_testcontainers_write_them_are_read() {
    let config = config(&[
        (
            "listeners",
            "PLAINTEXT://:9092,BROKER://0.0.0.0:9093,CONTROLLER://localhost:9094,TC-0://[::1]:19092",
        ),
        ("advertised.listeners", "PLAINTEXT://localhost:32768,BROKER://kafka:9093,"),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,TC-0:PLAINTEXT",
        ),
        ("controller.listener.names", "CONTROLLER"),
    ]);
    let listener = |name: &str, host: &str, port, advertised: Option<(&str, u16)>| Listener {
        name: name.to_owned(),
        host: host.to_owned(),
        port,
        advertised: advertised.map(|(host, port)| (host.to_owned(), port)),
    };
    assert_eq!(
        config.listeners().unwrap(),
        [
            listener("PLAINTEXT", "", 9092, Some(("localhost", 32768))),
            listener("BROKER", "0.0.0.0", 9093, Some(("kafka", 9093))),
            listener("TC-0", "::1", 19092, None),
        ]
    );
}

#[test]
fn localhost_listens_on_both_loopbacks() {
    let listener = config(&[("listeners", "PLAINTEXT://localhost:0")]).listeners().unwrap().remove(0);
    assert_eq!(listener.hosts(), ["127.0.0.1", "::1"]);
    let default = Config::default().listeners().unwrap().remove(0);
    assert_eq!((default.host.as_str(), default.port, default.advertised), ("127.0.0.1", 0, None));
}

#[test]
fn listeners_that_contradict_each_other_are_refused_by_the_key_at_fault() {
    for (key, pairs) in [
        ("listeners", &[("listeners", "CONTROLLER://:9093")][..]),
        ("listeners", &[("listeners", "PLAINTEXT://:1,PLAINTEXT://:2")]),
        (
            "listeners",
            &[("listeners", "PLAINTEXT://:1,A://:1"), (PROTOCOLS, "PLAINTEXT:PLAINTEXT,A:PLAINTEXT")],
        ),
        ("listeners", &[("listeners", "SASL_SSL://:9093")]),
        ("listeners", &[("listeners", "SSL://:9093"), (PROTOCOLS, "A:PLAINTEXT")]),
        ("listeners", &[("listeners", "INSIDE://:9093")]),
        ("listeners", &[("listeners", "a://:1,A://:2"), (PROTOCOLS, "A:PLAINTEXT")]),
        (PROTOCOLS, &[("listeners", "INSIDE://:9093"), (PROTOCOLS, "OTHER:PLAINTEXT")]),
        (PROTOCOLS, &[("listeners", "PLAINTEXT://:9093"), (PROTOCOLS, "PLAINTEXT:SSL")]),
        (PROTOCOLS, &[("listeners", "INSIDE://:9093"), (PROTOCOLS, "INSIDE:SASL_SSL")]),
        ("advertised.listeners", &[("advertised.listeners", "OUTSIDE://host:1")]),
        ("advertised.listeners", &[("advertised.listeners", "PLAINTEXT://0.0.0.0:1")]),
    ] {
        let refusal = config(pairs).listeners().unwrap_err();
        assert_eq!(refusal.key, key, "{refusal}");
    }
    let auto = config(&[("advertised.listeners", "auto")]).listeners().unwrap();
    assert_eq!(auto.first().and_then(|listener| listener.advertised.clone()), None);
}

/// As in Kafka, names of listeners do not differ by case.
#[test]
fn listeners_may_be_written_in_lower_case() {
    let listener = config(&[
        ("listeners", "inside://127.0.0.1:1,quorum://:2"),
        ("advertised.listeners", "Inside://host:3"),
        (PROTOCOLS, "insidE:plaintext"),
        ("controller.listener.names", "QUORUM"),
    ])
    .listeners()
    .unwrap();
    let names: Vec<_> = listener.iter().map(|l| (l.name.as_str(), l.advertised.clone())).collect();
    assert_eq!(names, [("INSIDE", Some(("host".to_owned(), 3)))]);
}

const PROTOCOLS: &str = "listener.security.protocol.map";
