//! Laws of the walk, over every API and version of the table.

mod decoder;
mod rules;
mod specimen;

use super::field::Api;
use super::*;
use decoder::{decoder, default_request};
use specimen::{Dice, Fill, Length, Width, specimen, varint};

/// Every (API, version) of the table.
fn every_version() -> impl Iterator<Item = (&'static Api, i16)> {
    table::all().iter().flat_map(|api| api.versions.clone().map(move |version| (*api, version)))
}

#[test]
fn every_version_of_every_api_accepts_its_own_requests() {
    let mut walked = 0;
    for (api, version) in every_version() {
        for seed in 0..20 {
            for fill in [Fill::Least, Fill::Full, Fill::Foreign] {
                let body = specimen(api, version, fill, seed).body;
                assert_eq!(walk(api.key, version, &body), Ok(()), "{} v{version} {body:02x?}", api.name);
                walked += 1;
            }
        }
    }
    assert!(walked > 200 * 60, "the table lost its versions: {walked}");
}

#[test]
fn kafka_protocol_reads_every_request_whole_and_writes_it_back() {
    let mut versions = 0;
    for (api, version) in every_version() {
        let decoder = decoder(api.key).expect("kafka-protocol has every API of the table");
        if !decoder.knows(version) {
            continue;
        }
        versions += 1;
        for seed in 0..20 {
            for fill in [Fill::Least, Fill::Full, Fill::Foreign] {
                let body = specimen(api, version, fill, seed).body;
                let decoded =
                    decoder.decode(&body, version).map_err(|e| format!("{} v{version}: {e}", api.name));
                let decoded = decoded.unwrap();
                assert_eq!(decoded.left, 0, "{} v{version}", api.name);
                assert_eq!(decoded.again, body, "{} v{version}", api.name);
            }
        }
    }
    assert!(versions > 180, "kafka-protocol lost its versions: {versions}");
}

#[test]
fn the_default_request_of_kafka_protocol_is_accepted() {
    let mut accepted = 0;
    for (api, version) in every_version() {
        let decoder = decoder(api.key).unwrap();
        let Some(body) = default_request(api.key, version).filter(|_| decoder.knows(version)) else {
            continue;
        };
        assert_eq!(walk(api.key, version, &body), Ok(()), "{} v{version} {body:02x?}", api.name);
        accepted += 1;
    }
    assert!(accepted > 150, "{accepted}");
}

#[test]
fn the_table_covers_every_version_that_kafka_protocol_knows() {
    for api in table::all() {
        let decoder = decoder(api.key).unwrap();
        assert_eq!(decoder.key, api.key);
        assert!(api.versions.contains(&decoder.min) && api.versions.contains(&decoder.max), "{}", api.name);
        for version in decoder.min..=decoder.max {
            let theirs =
                kafka_protocol::messages::ApiKey::try_from(api.key).unwrap().request_header_version(version);
            assert_eq!(theirs, if version >= api.flexible { 2 } else { 1 }, "{} v{version}", api.name);
        }
    }
}

#[test]
fn a_request_cut_anywhere_is_malformed() {
    for (api, version) in every_version() {
        for fill in [Fill::Least, Fill::Full, Fill::Foreign] {
            let body = specimen(api, version, fill, 7).body;
            for cut in 0..body.len() {
                assert!(
                    walk(api.key, version, &body[..cut]).is_err(),
                    "{} v{version} cut at {cut}",
                    api.name
                );
            }
        }
    }
}

#[test]
fn one_byte_after_the_end_is_malformed() {
    for (api, version) in every_version() {
        for byte in [0x00, 0x01, 0xff] {
            let mut body = specimen(api, version, Fill::Full, 3).body;
            let end = body.len();
            body.push(byte);
            let refused = Malformed { field: "body", at: end, why: Why::TrailingBytes };
            assert_eq!(walk(api.key, version, &body), Err(refused), "{} v{version}", api.name);
        }
    }
}

/// The lies that a length field of that width can tell, as bytes to put in its place.
fn lies(length: &Length, left: usize) -> Vec<Vec<u8>> {
    let beyond = left as u64 + 1;
    match length.width {
        Width::Int16 => {
            [beyond as i16, i16::MAX, -2, i16::MIN].iter().map(|lie| lie.to_be_bytes().to_vec()).collect()
        }
        Width::Int32 => {
            [beyond as i32, i32::MAX, -2, i32::MIN].iter().map(|lie| lie.to_be_bytes().to_vec()).collect()
        }
        Width::Compact => {
            let counts =
                [beyond + 1, i32::MAX as u64, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX];
            let mut lies: Vec<Vec<u8>> = counts.iter().map(|lie| varint(*lie)).collect();
            lies.push(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
            lies.push(vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x00]);
            lies
        }
    }
}

fn replaced(body: &[u8], length: &Length, bytes: &[u8]) -> Vec<u8> {
    [&body[..length.at], bytes, &body[length.at + length.bytes..]].concat()
}

#[test]
fn a_lie_in_any_length_or_count_is_malformed() {
    let mut told = 0;
    for (api, version) in every_version() {
        for seed in [0, 1, 2] {
            let honest = specimen(api, version, Fill::Full, seed);
            for length in &honest.lengths {
                let left = honest.body.len() - length.at - length.bytes;
                for lie in lies(length, left) {
                    let body = replaced(&honest.body, length, &lie);
                    let walked = walk(api.key, version, &body);
                    assert!(walked.is_err(), "{} v{version} {length:?} {lie:02x?}", api.name);
                    told += 1;
                }
            }
        }
    }
    assert!(told > 10_000, "{told}");
}

#[test]
fn null_where_the_schema_has_no_null_is_malformed() {
    let mut refused = 0;
    for (api, version) in every_version() {
        let honest = specimen(api, version, Fill::Full, 5);
        for length in honest.lengths.iter().filter(|length| !length.nullable) {
            let null: &[u8] = match length.width {
                Width::Int16 => &[0xff, 0xff],
                Width::Int32 => &[0xff; 4],
                Width::Compact => &[0],
            };
            let body = replaced(&honest.body, length, null);
            let walked = walk(api.key, version, &body).map_err(|malformed| malformed.why);
            assert_eq!(walked, Err(Why::Null), "{} v{version} {length:?}", api.name);
            refused += 1;
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn text_that_is_not_utf8_is_malformed() {
    for name in [&[0xff, 0xfe][..], &[0xc3], &[0xed, 0xa0, 0x80]] {
        let mut body = vec![0, 0, 0, 1, 0, name.len() as u8];
        body.extend_from_slice(name);
        assert_eq!(walk(3, 0, &body).unwrap_err().why, Why::NotUtf8);
    }
}

#[test]
fn the_bodies_that_abort_kafka_protocol_are_malformed() {
    for (key, version, body) in [
        (3, 0, &[0x7f, 0xff, 0xff, 0xff][..]),
        (3, 0, &[0x80, 0x00, 0x00, 0x00]),
        (3, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        (0, 3, &[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x0f, 0xff, 0xff, 0xff]),
        (9, 8, &[0xff, 0xff, 0xff, 0xff, 0x07, 0, 0]),
    ] {
        assert!(walk(key, version, body).is_err(), "{key} v{version} {body:02x?}");
    }
}

/// Damages a few bytes, mostly with the values that lengths are made of.
fn damage(body: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(body.len());
        match (body.get_mut(at), dice.below(4)) {
            (Some(byte), 0) => *byte = dice.roll() as u8,
            (Some(byte), 1) => *byte = [0x00, 0x01, 0x02, 0x7f, 0x80, 0xff][dice.below(6)],
            (Some(byte), 2) => *byte ^= 1 << dice.below(8),
            (_, _) => body.insert(at, [0x00, 0x01, 0x80, 0xff][dice.below(4)]),
        }
    }
}

/// If the walk erred here, the decoder would abort this whole test process.
#[test]
fn what_the_walk_accepts_kafka_protocol_reads_to_the_same_end() {
    let mut dice = Dice::new(20_261_124);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..60 {
        for (api, version) in every_version() {
            let fill = [Fill::Full, Fill::Foreign][round % 2];
            let mut body = specimen(api, version, fill, dice.roll()).body;
            damage(&mut body, &mut dice);
            if walk(api.key, version, &body).is_err() {
                refused += 1;
                continue;
            }
            let decoder = decoder(api.key).unwrap();
            if let Some(Ok(decoded)) = decoder.knows(version).then(|| decoder.decode(&body, version)) {
                assert_eq!(decoded.left, 0, "{} v{version} {body:02x?}", api.name);
                accepted += 1;
            }
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn random_bytes_never_panic() {
    let mut dice = Dice::new(7);
    let mut refused = 0;
    for _ in 0..200 {
        let noise: Vec<u8> = (0..dice.below(64)).map(|_| (dice.roll() & dice.roll()) as u8).collect();
        refused += every_version().filter(|(api, version)| walk(api.key, *version, &noise).is_err()).count();
        let _ = header(&noise);
    }
    assert!(refused > 10_000, "{refused}");
}
