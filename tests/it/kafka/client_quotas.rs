//! Kafka's quotas by user and client id: set, described, and felt.

use std::time::{Duration, Instant};

use super::{Client, House, In, NOBODY, Out, batch, produce_body};

fn nullable(body: Out, text: Option<&str>) -> Out {
    match text {
        Some(text) => body.string(text),
        None => body.i16(-1),
    }
}

/// AlterClientQuotas v0 of one entity; error code.
fn alter(client: &mut Client, entity: &[(&str, Option<&str>)], key: &str, value: Option<f64>) -> i16 {
    let mut body = Out::new().i32(1).i32(entity.len() as i32);
    for (kind, name) in entity {
        body = nullable(body.string(kind), *name);
    }
    body = body.i32(1).string(key).raw(&value.unwrap_or(0.0).to_be_bytes()).i8(i8::from(value.is_none()));
    let mut answer = client.call(49, 0, &body.i8(0));
    answer.i32();
    assert_eq!(answer.i32(), 1);
    answer.i16()
}

/// DescribeClientQuotas v0 with one component or none: each entity as text, with its values.
fn describe(client: &mut Client, component: Option<(&str, i8, Option<&str>)>, strict: bool) -> Vec<String> {
    let mut body = Out::new().i32(i32::from(component.is_some()));
    if let Some((kind, how, name)) = component {
        body = nullable(body.string(kind).i8(how), name);
    }
    let mut answer = client.call(48, 0, &body.i8(i8::from(strict)));
    answer.i32();
    assert_eq!(answer.i16(), 0);
    answer.string();
    (0..answer.i32()).map(|_| entry(&mut answer)).collect()
}

fn entry(answer: &mut In) -> String {
    let mut parts = Vec::new();
    for _ in 0..answer.i32() {
        let kind = answer.string();
        // A null name is the default.
        parts.push(format!("{kind}={}", answer.string()));
    }
    for _ in 0..answer.i32() {
        let key = answer.string();
        let value = f64::from_be_bytes(answer.take(8).try_into().unwrap());
        parts.push(format!("{key}:{value}"));
    }
    parts.join(" ")
}

/// Code and `throttle_time_ms` of a produce of about 3.5 KB.
fn produce(client: &mut Client) -> (i16, i32) {
    let mut answer = client.call(0, 7, &produce_body("t", 1, &batch(NOBODY, 60, &[b'v'; 50])));
    answer.i32();
    answer.string();
    answer.i32();
    answer.i32();
    let code = answer.i16();
    answer.take(24);
    (code, answer.i32())
}

#[test]
fn quotas_are_described_as_they_were_set_and_filters_find_what_they_name() {
    let house = House::ephemeral();
    let mut client = house.client();
    let user = [("user", Some("u"))];
    let default = [("client-id", None)];
    let both = [("client-id", Some("c")), ("user", Some("u"))];
    assert_eq!(alter(&mut client, &user, "producer_byte_rate", Some(1000.0)), 0);
    assert_eq!(alter(&mut client, &default, "consumer_byte_rate", Some(2000.0)), 0);
    assert_eq!(alter(&mut client, &both, "request_percentage", Some(12.5)), 0);
    for (entity, key, value) in [
        (&user[..], "producer_byte_rate", 0.0),
        (&user[..], "producer_byte_rate", 1.5),
        (&user[..], "no_such_rate", 1.0),
        (&[("group", Some("g"))][..], "producer_byte_rate", 1.0),
        (&[("user", Some(""))][..], "producer_byte_rate", 1.0),
        (&[][..], "producer_byte_rate", 1.0),
    ] {
        assert_eq!(alter(&mut client, entity, key, Some(value)), 42, "{entity:?} {key} {value}");
    }
    let of_default = "client-id= consumer_byte_rate:2000";
    let of_user = "user=u producer_byte_rate:1000";
    let of_both = "user=u client-id=c request_percentage:12.5";
    let mut all = describe(&mut client, None, false);
    all.sort();
    assert_eq!(all, [of_default, of_both, of_user]);
    assert_eq!(describe(&mut client, Some(("user", 0, Some("u"))), true), [of_user]);
    assert_eq!(describe(&mut client, Some(("user", 0, Some("u"))), false).len(), 2);
    assert_eq!(describe(&mut client, Some(("client-id", 1, None)), false), [of_default]);
    assert_eq!(describe(&mut client, Some(("client-id", 2, None)), true), [of_default]);
    assert_eq!(alter(&mut client, &user, "producer_byte_rate", None), 0);
    assert_eq!(describe(&mut client, None, false).len(), 2);
    house.shutdown();
}

#[test]
fn a_producer_over_its_rate_is_told_and_held_wherever_it_writes() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    assert_eq!(produce(&mut client), (0, 0));
    // The clients here are called `test`; others are not limited.
    assert_eq!(alter(&mut client, &[("client-id", Some("other"))], "producer_byte_rate", Some(1.0)), 0);
    assert_eq!(produce(&mut client), (0, 0));
    assert_eq!(alter(&mut client, &[("client-id", Some("test"))], "producer_byte_rate", Some(2000.0)), 0);
    let sent = Instant::now();
    let (code, told) = produce(&mut client);
    assert_eq!(code, 0);
    assert!((600..1_000).contains(&told), "{told} for 3.5 KB at 2 KB/s");
    assert!(sent.elapsed() < Duration::from_millis(400));
    let mut other = house.client();
    assert!(produce(&mut other).1 > told, "one quota for all connections of a client id");
    assert_eq!(client.list_offset("t", -1), (0, 240));
    assert!(sent.elapsed().as_millis() as i32 > told - 50, "held");
    house.shutdown();
}

#[test]
fn a_consumer_over_its_rate_gets_nothing_until_it_may() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    assert_eq!(produce(&mut client), (0, 0));
    assert_eq!(alter(&mut client, &[("user", None)], "consumer_byte_rate", Some(2000.0)), 0);
    let mut fetch = |wait_ms: i32| {
        let body = Out::new().i32(-1).i32(wait_ms).i32(1).i32(1 << 20).i8(0).i32(1).string("t");
        let mut answer = client.call(1, 4, &body.i32(1).i32(0).i64(0).i32(1 << 20));
        let told = answer.i32();
        answer.i32();
        answer.string();
        answer.take(4 + 4 + 2 + 8 + 8 + 4);
        (told, answer.blob().len())
    };
    let begun = Instant::now();
    let (told, bytes) = fetch(0);
    assert!(bytes > 3_000 && (500..1_000).contains(&told), "{told} for {bytes}");
    let (still, none) = fetch(0);
    assert!(none == 0 && still > 0);
    assert_eq!(fetch(5_000).1, bytes);
    let held = begun.elapsed().as_millis() as i32;
    assert!((told - 20..told + 1_000).contains(&held), "{held} for {told}");
    house.shutdown();
}

#[test]
fn a_client_over_its_share_of_time_is_told_by_every_api() {
    let house = House::ephemeral();
    let mut client = house.client();
    assert_eq!(client.create_topic("t", &[]), 0);
    // A hundred-thousandth of a core: any request is too much.
    let quota = ("request_percentage", Some(0.000_01));
    assert_eq!(alter(&mut client, &[("client-id", Some("test"))], quota.0, quota.1), 0);
    let begun = Instant::now();
    // Metadata v3 of no topic.
    let mut answer = client.call(3, 3, &Out::new().i32(0));
    let told = answer.i32();
    assert!(told > 0, "told {told}");
    // Heartbeat v1 of a group that is not there.
    let mut answer = client.call(12, 1, &Out::new().string("g").i32(1).string("m"));
    assert!(answer.i32() > 0);
    assert!(begun.elapsed().as_millis() as i32 > told - 50, "and held");
    house.shutdown();
}

#[test]
fn entities_of_one_request_are_one_change_and_have_their_own_outcomes() {
    let house = House::ephemeral();
    let mut client = house.client();
    let one = |body: Out, name: &str| {
        let body = body.i32(1).string("client-id").string(name);
        body.i32(1).string("producer_byte_rate").raw(&1e6_f64.to_be_bytes()).i8(0)
    };
    let (long, longest) = ("x".repeat(257), "é".repeat(128));
    let names = ["a", &long, &longest];
    let body = names.iter().fold(Out::new().i32(3), |body, name| one(body, name));
    let mut answer = client.call(49, 0, &body.i8(0));
    answer.i32();
    assert_eq!(answer.i32(), 3);
    for (name, expected) in names.iter().zip([0, 42, 0]) {
        assert_eq!(answer.i16(), expected, "{name}");
        answer.string();
        assert_eq!((answer.i32(), answer.string(), answer.string()), (1, "client-id".into(), (*name).into()));
    }
    let told = ["a", &longest].map(|name| format!("client-id={name} producer_byte_rate:1000000"));
    assert_eq!(describe(&mut client, None, false), told);
    house.shutdown();
}
