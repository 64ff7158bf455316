//! A strict door: what is signed over is what counts, however it was sent; and who is not let in at all.
//!
//! The signatures are botocore's (1.44.5), for these requests and keys at that time; the wrong ones are made in the
//! same way over something else.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_broker::config::{Config, Source};
use weir_broker::{Broker, Clock};

use super::{House, JSON, request};

const SIGNED_MS: i64 = 1_440_938_160_000;
const BODY: &str = r#"{"Limit":1}"#;
const GOOD: &str = "80cab2a947a649be37580c52878dfa8d992576a7ffdf43e313cf939de01f6bf4";
const HEADERS: &str = "host;x-amz-date;x-amz-target";

fn strict() -> (House, Clock) {
    let mut config = Config::default();
    for (key, value) in [("kinesis.auth", "strict"), ("kinesis.access.keys", "AKID:SECRET")] {
        config.set(key, value, Source::CommandLine).unwrap();
    }
    let clock = Clock::Manual(Arc::default());
    set(&clock, 0);
    (House::start(Broker::builder().ephemeral().config(config).clock(clock.clone())), clock)
}

/// So many minutes after the signatures were made.
fn set(clock: &Clock, minutes: i64) {
    let Clock::Manual(time) = clock else { unreachable!() };
    time.now_ms.store(SIGNED_MS + minutes * 60_000, Ordering::Relaxed);
}

fn signed(path: &str, region: &str, headers: &str, signature: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost:4567\r\nContent-Type: {JSON}\r\nX-Amz-Target: Kinesis_20131202.ListStreams\r\n\
         X-Amz-Date: 20150830T123600Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKID/20150830/{region}/kinesis/aws4_request, \
         SignedHeaders={headers}, Signature={signature}\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
}

fn outcome(house: &House, bytes: &str) -> (u16, String) {
    let mut client = house.client();
    client.send(bytes.as_bytes());
    client.receive().unwrap().outcome()
}

#[test]
fn a_signature_counts_for_the_time_the_region_the_headers_and_the_body_it_was_made_for() {
    let (house, clock) = strict();
    let good = signed("/", "us-east-1", HEADERS, GOOD);
    let taken = (200, "ok".to_owned());
    let refused = (403, "InvalidSignatureException".to_owned());
    assert_eq!(outcome(&house, &good), taken);
    let twice = "X-Amz-Target: Kinesis_20131202.ListStreams\r\n";
    let own = "\r\nX-Amz-Security-Token: t\r\n";
    for (what, bytes) in [
        ("a nibble off", good.replace(GOOD, &GOOD.replacen('8', "9", 1))),
        ("cut off", good.replace(GOOD, &GOOD[..62])),
        ("another region", good.replace("us-east-1", "eu-west-1")),
        ("another service", good.replace("/kinesis/", "/dynamodb/")),
        ("another day", good.replace("AKID/20150830", "AKID/20150831")),
        ("another body", good.replace(BODY, r#"{"Limit":2}"#)),
        ("a header twice", good.replacen(twice, &twice.repeat(2), 1)),
        ("a signed header that is not there", good.replace(HEADERS, "host;x-amz-date;x-amz-target;x-none")),
        (
            "an operation that is not signed",
            signed(
                "/",
                "us-east-1",
                "host;x-amz-date",
                "7d4bc31433db448355347d04c9eb287937e67236d81e92be08185a477bb27a04",
            ),
        ),
        (
            "a time that is not signed",
            signed(
                "/",
                "us-east-1",
                "host;x-amz-target",
                "afd9dcdd9fae40979ca73f80216c59a40cf77a919ff0a63fbf8637addfb291c1",
            ),
        ),
        ("a header of the service's own beside those that are signed", good.replacen("\r\n", own, 1)),
        (
            "the host not signed",
            signed(
                "/",
                "us-east-1",
                "x-amz-date;x-amz-target",
                "907b087168b2354dd4bc55813a941b53f7af71573a9536e96a52522d04c96f53",
            ),
        ),
    ] {
        assert_eq!(outcome(&house, &bytes), refused, "{what}");
    }
    for (minutes, expected) in [(15, &taken), (16, &refused), (-15, &taken), (-16, &refused)] {
        set(&clock, minutes);
        assert_eq!(&outcome(&house, &good), expected, "{minutes} min later");
    }
    house.shutdown();
}

#[test]
fn who_is_not_let_in_is_told_so_before_the_body_is_sent() {
    let (house, _) = strict();
    let good = signed("/", "us-east-1", HEADERS, GOOD);
    let head = good.strip_suffix(BODY).unwrap().replace("Content-Length: 11", "Content-Length: 15000000");
    for (what, head, expected) in [
        ("a stranger", head.replace("AKID/", "OTHER/"), "UnrecognizedClientException"),
        ("another service", head.replace("/kinesis/", "/dynamodb/"), "InvalidSignatureException"),
        ("no signature at all", head.replace(GOOD, "0"), "InvalidSignatureException"),
        ("not signed", head.replace("x-amz-date;x-amz-target", "x-amz-date"), "InvalidSignatureException"),
    ] {
        assert_eq!(outcome(&house, &head), (403, expected.to_owned()), "{what}");
    }
    house.shutdown();
}

#[test]
fn a_query_is_signed_sorted_and_in_one_encoding_however_it_was_sent() {
    let (house, _) = strict();
    // Over a=x%2Fy&b=2.
    let one_form = "605a5fd6c6072649c94e8393bebd37fbdc0122ba67f5a24aeb71ab58dcd706ec";
    for sent in ["/?a=x%2Fy&b=2", "/?b=2&a=x%2Fy", "/?b=2&a=x%2fy", "/?a=x/y&b=2"] {
        assert_eq!(outcome(&house, &signed(sent, "us-east-1", HEADERS, one_form)).0, 200, "{sent}");
    }
    for (sent, signature) in [
        ("/?b=2&a=x%2Fy", "18b4054f700417e80b8e439878d8ec7eaba5bd10ec0a1cfaee5b82df615da681"),
        ("/?a=x/y&b=2", "bffcf37b07d91b816337f2f63e647babe72d6f3cc87479ae2fa1f0700c23e7d5"),
        ("/?a=x%2fy&b=2", "80705f25efe3d1db5e535c1269b666be25500180aeb98fd4c2ae583c3cd4ed28"),
        ("/?a=x%2Fy&b=3", one_form),
    ] {
        let refused = (403, "InvalidSignatureException".to_owned());
        assert_eq!(outcome(&house, &signed(sent, "us-east-1", HEADERS, signature)), refused, "{sent}");
    }
    let path = outcome(&house, &signed("/%2f", "us-east-1", HEADERS, GOOD));
    assert_eq!(path, (403, "AccessDeniedException".to_owned()), "an encoded slash is another path");
    house.shutdown();
}

#[test]
fn pages_of_origins_that_are_allowed_are_served_and_others_are_not() {
    for (allowed, origin, served) in [
        ("http://app.example", "http://app.example", true),
        ("http://other.example,http://App.example", "http://app.example", true),
        ("http://app.example", "http://app.example.evil", false),
        ("*", "http://anybody.example", true),
        ("*", "null", true),
        ("http://app.example", "null", false),
    ] {
        let house = House::configured(&[("kinesis.allowed.origins", allowed)]);
        let page = format!("\r\nOrigin: {origin}\r\n");
        let plain = String::from_utf8(request(JSON, "ListStreams", b"{}")).unwrap();
        let mut client = house.client();
        client.send(plain.replacen("\r\n", &page, 1).as_bytes());
        let answer = client.receive().unwrap();
        assert_eq!(answer.status, if served { 200 } else { 403 }, "{allowed} {origin}");
        let told = format!("access-control-allow-origin: {origin}");
        assert_eq!(answer.head.contains(&told), served, "{}", answer.head);
        assert_eq!(answer.head.contains("access-control-expose-headers: x-amzn-requestid"), served);
        let preflight = format!(
            "OPTIONS / HTTP/1.1\r\nHost: x{page}Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: x-amz-target\r\n\r\n"
        );
        let mut client = house.client();
        client.send(preflight.as_bytes());
        let answer = client.receive().unwrap();
        assert_eq!(answer.status, if served { 200 } else { 403 });
        assert_eq!(answer.head.contains("access-control-allow-headers: x-amz-target"), served);
        assert_eq!(answer.head.contains(&told), served);
        // Nobody else is told anything.
        let mut client = house.client();
        client.send(plain.as_bytes());
        let answer = client.receive().unwrap();
        assert!(answer.status == 200 && !answer.head.contains("access-control"), "{}", answer.head);
        house.shutdown();
    }
}

#[test]
fn a_web_page_is_refused_whatever_name_it_came_by_and_the_name_alone_is_nobodys_fault() {
    let house = House::ephemeral();
    let plain = String::from_utf8(request(JSON, "ListStreams", b"{}")).unwrap();
    for name in ["evil.example", "weir:4567", "000000000000.control-kinesis.eu-west-1.amazonaws.com"] {
        let renamed = plain.replace("Host: localhost", &format!("Host: {name}"));
        assert_eq!(outcome(&house, &renamed).0, 200, "clients call the broker by any name: {name}");
        let page = renamed.replacen("\r\n", &format!("\r\nOrigin: http://{name}\r\n"), 1);
        assert_eq!(outcome(&house, &page), (403, "AccessDeniedException".to_owned()), "{name}");
    }
    let preflight =
        "OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nAccess-Control-Request-Method: POST\r\n\r\n";
    let mut client = house.client();
    client.send(preflight.as_bytes());
    let answer = client.receive().unwrap();
    assert_eq!(answer.status, 403);
    assert!(!answer.head.contains("access-control"), "{}", answer.head);
    house.shutdown();
}
