//! Laws of the tagged section, the budgets and the header, one example each.

use crate::kafka::schema::*;

/// Metadata v12 for all topics with that tagged section at its end.
fn metadata_with_tags(tags: &[u8]) -> Result<(), Why> {
    let body = [&[0, 1, 0][..], tags].concat();
    walk(3, 12, &body).map_err(|malformed| malformed.why)
}

#[test]
fn tags_ascend_and_stay_inside_the_frame() {
    assert_eq!(metadata_with_tags(&[0]), Ok(()));
    assert_eq!(metadata_with_tags(&[2, 5, 1, 9, 6, 0]), Ok(()));
    assert_eq!(metadata_with_tags(&[2, 6, 0, 5, 0]), Err(Why::TagOrder));
    assert_eq!(metadata_with_tags(&[2, 5, 0, 5, 0]), Err(Why::TagOrder));
    assert_eq!(metadata_with_tags(&[1, 5, 9, 1]), Err(Why::CutShort));
    assert_eq!(metadata_with_tags(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Why::TooManyTags));
    assert_eq!(metadata_with_tags(&[0x81, 0x01]), Err(Why::TooManyTags));
}

#[test]
fn a_known_tag_fills_its_size() {
    let fetch = |tags: &[u8]| {
        let mut body = vec![0; 4 * 4 + 1 + 4 + 4];
        body.extend_from_slice(&[1, 1, 1]);
        body.extend_from_slice(tags);
        walk(1, 12, &body).map_err(|malformed| malformed.why)
    };
    assert_eq!(fetch(&[0]), Ok(()));
    assert_eq!(fetch(&[1, 0, 3, 3, b'm', b'e']), Ok(()));
    assert_eq!(fetch(&[1, 0, 1, 0]), Ok(()));
    assert_eq!(fetch(&[1, 0, 1, 3, b'm', b'e']), Err(Why::TagSize));
    assert_eq!(fetch(&[1, 0, 4, 3, b'm', b'e', 0]), Err(Why::TagSize));
}

#[test]
fn elements_of_all_arrays_share_one_budget() {
    // DeleteGroups v2: empty names, one byte each.
    let names = |count: usize| {
        let mut body = super::varint(count as u64 + 1);
        body.extend(std::iter::repeat_n(1, count));
        body.push(0);
        walk(42, 2, &body).map_err(|malformed| malformed.why)
    };
    assert_eq!(names(MAX_ELEMENTS), Ok(()));
    assert_eq!(names(MAX_ELEMENTS + 1), Err(Why::TooManyElements));

    // CreatePartitions v2: two topics, whose assignments together pass the budget.
    let mut body = vec![3];
    for _ in 0..2 {
        body.extend_from_slice(&[1, 0, 0, 0, 1]);
        body.extend(super::varint(500_001));
        body.extend(std::iter::repeat_n([1, 0], 500_000).flatten());
        body.push(0);
    }
    body.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
    assert_eq!(walk(37, 2, &body).unwrap_err().why, Why::TooManyElements);
}

#[test]
fn tags_without_a_schema_share_one_budget() {
    // DescribeTopicPartitions v0: each topic with 128 empty tags.
    let topics = |count: u8| {
        let mut body = vec![count + 1];
        for _ in 0..count {
            body.extend_from_slice(&[1, 0x80, 0x01]);
            (0..128u64).for_each(|tag| body.extend([super::varint(tag), vec![0]].concat()));
        }
        body.extend_from_slice(&[0, 0, 0, 0, 0xff, 0]);
        walk(75, 0, &body).map_err(|malformed| malformed.why)
    };
    assert_eq!(topics(78), Ok(()));
    assert_eq!(topics(79), Err(Why::TooManyTags));
}

#[test]
fn strings_end_at_32767_bytes_in_both_encodings() {
    let compact = |bytes: usize| {
        let mut body = vec![2];
        body.extend(super::varint(bytes as u64 + 1));
        body.extend(std::iter::repeat_n(b'a', bytes));
        body.push(0);
        walk(42, 2, &body).map_err(|malformed| malformed.why)
    };
    assert_eq!(compact(MAX_STRING_BYTES), Ok(()));
    assert_eq!(compact(MAX_STRING_BYTES + 1), Err(Why::LongString));
}

#[test]
fn keys_and_versions_without_a_schema_are_malformed() {
    for (key, version) in [(-1, 0), (4, 0), (76, 0), (1000, 0), (i16::MAX, 0), (3, -1), (3, 14), (18, 99)] {
        assert_eq!(walk(key, version, &[]).unwrap_err().why, Why::UnknownVersion, "{key} v{version}");
    }
    assert_eq!((flexible_from(3), name(3)), (9, "Metadata"));
    assert_eq!((flexible_from(4), name(4)), (i16::MAX, "unknown"));
}

fn frame(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    [&key.to_be_bytes()[..], &version.to_be_bytes(), &(-7i32).to_be_bytes(), rest].concat()
}

#[test]
fn a_header_ends_where_its_version_says() {
    for (key, version, rest, header_version, client_id, body_at) in [
        (3, 0, &[0, 2, b'm', b'e', 9][..], 1, Some("me"), 12),
        (3, 12, &[0, 2, b'm', b'e', 0, 9], 2, Some("me"), 13),
        (3, 12, &[0xff, 0xff, 1, 4, 2, 8, 8, 9], 2, None, 15),
        (17, 1, &[0, 0, 9], 1, Some(""), 10),
        (18, 3, &[0, 0, 0, 9], 2, Some(""), 11),
    ] {
        let frame = frame(key, version, rest);
        let expected = RequestHeader {
            api_key: key,
            api_version: version,
            correlation_id: -7,
            client_id: client_id.map(Into::into),
            header_version,
            body_at,
        };
        assert_eq!(header(&frame), Ok(expected));
    }
}

#[test]
fn a_header_that_lies_is_malformed() {
    for (rest, why) in [
        (&[][..], Why::CutShort),
        (&[0], Why::CutShort),
        (&[0xff, 0xfe, 0], Why::Negative),
        (&[0x7f, 0xff, b'a', b'b', b'c'], Why::CutShort),
        (&[0, 0], Why::CutShort),
        (&[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], Why::TooManyTags),
        (&[0, 0, 1, 0, 9], Why::CutShort),
        (&[0, 0, 2, 4, 0, 4, 0], Why::TagOrder),
        (&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Why::Varint),
    ] {
        let frame = frame(3, 12, rest);
        assert_eq!(header(&frame).map_err(|malformed| malformed.why), Err(why), "{rest:02x?}");
    }
    let whole = frame(3, 12, &[0, 0, 0]);
    (0..whole.len()).for_each(|cut| assert!(header(&whole[..cut]).is_err(), "cut at {cut}"));
}

#[test]
fn a_client_id_that_is_not_text_is_replaced_as_kafka_replaces_it() {
    for (id, read) in [(&b"a\xffb"[..], "a\u{fffd}b"), (b"\xc3", "\u{fffd}"), (b"\0\x1b[31m", "\0\x1b[31m")] {
        let asked = frame(3, 1, &[&[0, id.len() as u8], id, &[9]].concat());
        let header = header(&asked).unwrap();
        assert_eq!((header.client_id.as_deref(), header.body_at), (Some(read), 10 + id.len()));
    }
}

#[test]
fn an_unknown_version_still_tells_who_asks() {
    for (key, version) in [(18, 99), (18, -1), (3, 77), (1000, 0), (-1, -1)] {
        let asked = frame(key, version, &[0, 4, b'k', b'c', b'a', b't', 0xff, 0xff]);
        let header = header(&asked).unwrap();
        assert_eq!((header.correlation_id, header.client_id.as_deref()), (-7, Some("kcat")));
        for rest in [&[][..], &[0], &[0x7f, 0xff], &[0xff, 0xff]] {
            assert_eq!(super::header(&frame(key, version, rest)).unwrap().client_id, None);
        }
    }
}
