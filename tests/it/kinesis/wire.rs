//! HTTP and bodies: what is refused, how, and that the door goes on serving.

use std::io::Read;
use std::time::{Duration, Instant};

use super::{AUTHORIZATION, CBOR, Client, House, JSON, request};

/// After whatever came before, a new client is served.
fn still_serves(house: &House) {
    assert_eq!(house.client().call("ListStreams", "{}").outcome(), (200, "ok".to_owned()));
}

fn status_of(house: &House, bytes: &[u8]) -> Option<u16> {
    let mut client = house.client();
    client.send(bytes);
    client.receive().map(|answer| answer.status)
}

#[test]
fn a_request_whose_length_is_said_twice_is_refused_and_the_connection_closed() {
    let house = House::ephemeral();
    let plain = String::from_utf8(request(JSON, "ListStreams", b"{}")).unwrap();
    let with =
        |header: &str| plain.replacen("Host: localhost\r\n", &format!("Host: localhost\r\n{header}\r\n"), 1);
    for (what, bytes) in [
        ("two lengths that differ", with("Content-Length: 3")),
        ("a length and a coding", with("Transfer-Encoding: chunked")),
        ("an unknown coding", with("Transfer-Encoding: xchunked")),
        ("a folded header", with("X-Fold: a\r\n b")),
        ("a length that is none", plain.replace("Content-Length: 2", "Content-Length: two")),
    ] {
        let mut client = house.client();
        client.send(bytes.as_bytes());
        assert_eq!(client.receive().map(|a| a.status), Some(400), "{what}");
        client.send(plain.as_bytes());
        assert!(client.receive().is_none(), "{what}: the connection goes on");
    }
    still_serves(&house);
    house.shutdown();
}

#[test]
fn heads_and_bodies_have_limits() {
    let house = House::ephemeral();
    let headers = "x-one: 1\r\n".repeat(10_000);
    assert_eq!(status_of(&house, format!("POST / HTTP/1.1\r\n{headers}\r\n").as_bytes()), Some(431));
    let long = format!("POST / HTTP/1.1\r\nx-long: {}\r\n\r\n", "a".repeat(17_000));
    assert_eq!(status_of(&house, long.as_bytes()), Some(431));
    let path = format!("POST /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20));
    assert!(matches!(status_of(&house, path.as_bytes()), Some(414 | 431)));
    let huge = String::from_utf8(request(JSON, "PutRecords", b"")).unwrap();
    let huge = huge.replace("Content-Length: 0", "Content-Length: 99999999999");
    assert_eq!(status_of(&house, huge.as_bytes()), Some(413), "refused before it is read");
    still_serves(&house);
    house.shutdown();
}

#[test]
fn a_client_that_does_not_finish_its_head_is_cut_off() {
    let house = House::ephemeral();
    let mut slow = house.client();
    slow.send(b"POST / HT");
    let mut drip = house.client();
    // A byte every other second buys no time.
    let dripping = std::thread::spawn(move || {
        let begin = Instant::now();
        for byte in b"POST / HTTP/1.1" {
            drip.send(&[*byte]);
            std::thread::sleep(Duration::from_secs(2));
            if begin.elapsed() > Duration::from_secs(11) {
                break;
            }
        }
        assert_eq!(drip.receive().map(|answer| answer.status), Some(408));
        assert!(drip.receive().is_none() && begin.elapsed() < Duration::from_secs(18), "it is closed");
    });
    let mut silent = house.client();
    let begin = Instant::now();
    assert_eq!(slow.receive().map(|answer| answer.status), Some(408));
    let took = begin.elapsed();
    assert!(Duration::from_secs(8) < took && took < Duration::from_secs(18), "{took:?}");
    assert!(silent.receive().is_none(), "who said nothing is told nothing");
    dripping.join().unwrap();
    still_serves(&house);
    house.shutdown();
}

#[test]
fn a_body_that_is_none_is_a_serialization_exception() {
    let house = House::ephemeral();
    house.client().create("s", 1);
    let expected = (400, "SerializationException".to_owned());
    let deep = "[".repeat(100_000);
    let put = |data: &str| format!(r#"{{"StreamName":"s","PartitionKey":"k","Data":{data}}}"#);
    for body in [
        "",
        "[]",
        "{",
        deep.as_str(),
        r#"{"Limit":1,"Limit":2}"#,
        r#"{"Limit":1e400}"#,
        r#"{"Limit":"1"}"#,
        r#"{"ExclusiveStartStreamName":"\ud800"}"#,
    ] {
        assert_eq!(house.client().call("ListStreams", body).outcome(), expected, "{body:.40}");
    }
    for data in [r#""!!!!""#, r#""YQ=""#, r#""YR==""#, "1", "[]"] {
        assert_eq!(house.client().call("PutRecord", &put(data)).outcome(), expected, "{data}");
    }
    let nested = vec![0x9f; 100_000];
    for body in [
        &b""[..],
        b"\xff",
        &nested,
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let answer = house.client().call_in(CBOR, "ListStreams", body);
        assert_eq!(answer.status, 400);
        assert!(answer.head.contains("x-amzn-errortype: serializationexception"), "{}", answer.head);
        assert!(answer.head.contains(CBOR), "refusals come in the form of the request");
    }
    still_serves(&house);
    house.shutdown();
}

#[test]
fn who_does_not_sign_or_asks_for_what_is_not_there_is_told_so() {
    let house = House::ephemeral();
    let plain = String::from_utf8(request(JSON, "ListStreams", b"{}")).unwrap();
    let authorization = format!("Authorization: {AUTHORIZATION}\r\n");
    let outcome = |bytes: String| {
        let mut client = house.client();
        client.send(bytes.as_bytes());
        client.receive().unwrap().outcome().1
    };
    assert_eq!(outcome(plain.replace(&authorization, "")), "MissingAuthenticationTokenException");
    assert_eq!(
        outcome(plain.replace(&authorization, &authorization.repeat(2))),
        "IncompleteSignatureException"
    );
    assert_eq!(outcome(plain.replace("Signature=", "Sig=")), "IncompleteSignatureException");
    assert_eq!(outcome(plain.replace("POST / ", "POST /?X-Amz-Algorithm=x ")), "InvalidSignatureException");
    assert_eq!(outcome(plain.replace(".ListStreams", ".NoSuch")), "UnknownOperationException");
    assert_eq!(outcome(plain.replace("Kinesis_", "DynamoDB_")), "UnknownOperationException");
    assert_eq!(outcome(plain.replace("POST / ", "POST /x ")), "AccessDeniedException");
    let queue = house.client().call("CreateQueue", "{}");
    assert!(queue.text().contains("CreateQueue is not built yet"), "{}", queue.text());
    house.shutdown();
}

#[test]
fn who_says_no_form_is_answered_as_the_service_answers() {
    let house = House::ephemeral();
    let plain = String::from_utf8(request(JSON, "ListStreams", b"{}")).unwrap();
    let answer = |bytes: String| {
        let mut client = house.client();
        client.send(bytes.as_bytes());
        let answer = client.receive().unwrap();
        assert!(answer.head.contains("x-amzn-requestid: "));
        (answer.status, answer.text())
    };
    let nameless = (
        403,
        "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n\
         </AccessDeniedException>\n"
            .to_owned(),
    );
    let xml = plain.replace(JSON, "text/xml");
    assert_eq!(answer(xml.clone()), (404, "<UnknownOperationException/>\n".to_owned()));
    assert_eq!(answer(xml.replace("Kinesis_20131202.ListStreams", "x")), nameless);
    assert_eq!(answer(plain.replace("POST", "PUT")), nameless);
    assert_eq!(answer(plain.replace("POST", "DELETE")), nameless);
    let none = String::from_utf8(request("text/xml", "ListStreams", b"")).unwrap();
    let (status, body) = answer(none);
    assert_eq!(status, 400);
    assert!(body.contains("SerializationException"), "in CBOR: {body:?}");
    let broken = answer(plain.replace("{}", "{\"")).1;
    assert!(broken.contains(r#""Message":""#) && !broken.contains("message"), "{broken}");
    house.shutdown();
}

#[test]
fn a_strict_door_lets_nobody_in_who_signs_with_other_keys() {
    let house = House::configured(&[("kinesis.auth", "strict"), ("kinesis.access.keys", "AKID:SECRET")]);
    // Signed in 2026 with zeros.
    assert_eq!(
        house.client().call("ListStreams", "{}").outcome(),
        (403, "InvalidSignatureException".to_owned())
    );
    let mut client = house.client();
    client.send(
        String::from_utf8(request(JSON, "ListStreams", b"{}")).unwrap().replace("AKID/", "OTHER/").as_bytes(),
    );
    assert_eq!(client.receive().unwrap().outcome(), (403, "UnrecognizedClientException".to_owned()));
    house.shutdown();
}

#[test]
fn every_answer_has_a_request_id_and_requests_follow_each_other_on_a_connection() {
    let house = House::ephemeral();
    let mut client = house.client();
    let ids: Vec<String> = ["ListStreams", "DescribeLimits", "NoSuch"]
        .iter()
        .map(|operation| {
            let head = client.call(operation, "{}").head;
            head.split_once("x-amzn-requestid: ").unwrap().1.split_once("\r\n").unwrap().0.to_owned()
        })
        .collect();
    assert!(ids.iter().all(|id| id.len() == 36) && ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    let mut health = Client::connect(house.addr());
    health.send(b"GET /_health HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(health.receive().unwrap().status, 200);
    house.shutdown();
}

#[test]
fn http2_with_prior_knowledge_is_answered() {
    let house = House::ephemeral();
    let mut client = house.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut frame = [0; 9];
    client.stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "a SETTINGS frame");
    house.shutdown();
}

/// What is not counted anywhere is what a connection may send before its bodies are read.
#[test]
fn a_connection_sends_no_more_ahead_than_the_protocol_lets_it_anyway() {
    let house = House::ephemeral();
    let mut client = house.client();
    // Settings, and a ping whose answer says that all has been said.
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\0weirweir");
    let (mut of_connection, mut of_stream) = (65_535, 65_535);
    loop {
        let mut head = [0; 9];
        client.stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        client.stream.read_exact(&mut payload).unwrap();
        match head[3] {
            4 => {
                let initial = payload.chunks(6).find(|setting| setting[..2] == [0, 4]);
                let value = |setting: &[u8]| u32::from_be_bytes(setting[2..].try_into().unwrap());
                of_stream = initial.map_or(of_stream, value);
            }
            8 => of_connection += u32::from_be_bytes(payload[..].try_into().unwrap()),
            6 if head[4] == 1 => break,
            _ => {}
        }
    }
    assert!(of_connection <= 65_535 && of_stream <= 65_535, "{of_connection} {of_stream}");
    house.shutdown();
}
