//! Rows 35 to 50: counts and lengths that lie, more of something than anybody needs, names that are not text.
//!
//! The generated rows take one valid request of every API and version that weir serves and replace every count
//! and length in it. The requests are those of `tests/clients/hostile.d/corpus.txt`, which Kafka's own schemas
//! made, so that a mistake in weir's schema table shows; [`OTHERS`] adds the versions that Kafka 4 no longer has.

use std::collections::BTreeSet;
use std::io::Write;

use super::forged::uvarint;
use super::served::frame;
use super::{Out, Row, Served, closed, driven, figure, request};

const CORPUS: &str = include_str!("../../../clients/hostile.d/corpus.txt");

/// Versions that the corpus lacks, in its format: key, version, frame, and where what stands: count (a, compact
/// A), string (s, S), bytes (b, B), number of tags (t).
const OTHERS: &str = "\
0 0 00000000000000070001780001000003e8000000010001740000000100000000000000020102 8s,17a,21s,24a,32b
0 1 00000001000000070001780001000003e8000000010001740000000100000000000000020102 8s,17a,21s,24a,32b
0 2 00000002000000070001780001000003e8000000010001740000000100000000000000020102 8s,17a,21s,24a,32b
8 0 0008000000000007000178000167000000010001740000000100000000000000000000000500016d 8s,11s,14a,18s,21a,37s
8 1 00080001000000070001780001670000000100016d0000000100017400000001000000000000000000000005000000000000000000016d 8s,11s,18s,21a,25s,28a,52s
9 0 0009000000000007000178000167000000010001740000000100000000 8s,11s,14a,18s,21a
18 5 0012000500000007000178000261023102630000000100 8s,11t,12S,14S,16S,22t
19 0 0013000000000007000178000000010001740000000100010000000100000000000000010000000100000001000163000176000003e8 8s,11a,15s,24a,32a,40a,44s,47s
19 1 0013000100000007000178000000010001740000000100010000000100000000000000010000000100000001000163000176000003e800 8s,11a,15s,24a,32a,40a,44s,47s
42 3 002a0003000000070001780002026700 8s,11t,12A,13S,15t
20 0 001400000000000700017800000001000174000003e8 8s,11a,15s
32 0 0020000000000007000178000000010200017400000001000163 8s,11a,16s,19a,23s
";

pub(super) fn rows() -> Vec<Row> {
    let of = |key: i16, version: i16, body: &[u8]| request(key, version, body);
    // Header v2: an empty tagged section before the body.
    let flexible = |key: i16, version: i16, body: &[u8]| of(key, version, &[&[0], body].concat());
    let acks = [0xff, 0xff, 0, 1, 0, 0, 0, 9];
    let one_topic = [&acks[..], &[0, 0, 0, 1, 0, 1, b't', 0x7f, 0xff, 0xff, 0xff]].concat();
    let join = Out::new().string("g").i32(10_000).i32(10_000).string("").string("consumer").i32(i32::MAX);
    vec![
        closed(35, "Metadata v0 of 2^31 - 1 topics", [of(3, 0, &[0x7f, 0xff, 0xff, 0xff])]).peak_kib(1024),
        closed(36, "Metadata v0 of -2^31 topics", [of(3, 0, &[0x80, 0, 0, 0])]).peak_kib(1024),
        closed(37, "Metadata v9 of 2^32 - 2 topics", [flexible(3, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f])])
            .peak_kib(1024),
        closed(
            38,
            "Produce of 0x0fffffff topics",
            [of(0, 3, &[&acks[..], &[0x0f, 0xff, 0xff, 0xff]].concat())],
        )
        .peak_kib(1024),
        closed(39, "Produce of 2^31 - 1 partitions", [of(0, 3, &one_topic)]).peak_kib(1024),
        driven(40, "Fetch of a million topics without name and partitions", million_topics),
        closed(
            40,
            "Fetch of one more, which Kafka 4.4 does not take either",
            [of(1, 12, &topics(1_000_001))],
        ),
        closed(41, "OffsetFetch of 2^31 - 2 groups", [flexible(9, 8, &[0xff, 0xff, 0xff, 0xff, 0x07, 0, 0])])
            .peak_kib(1024),
        // As structs 100,000 topics are 14 MB, and their answers 15.
        driven(42, "CreateTopics of 100,000 topics", hundred_thousand_topics).peak_kib(40 * 1024),
        driven(43, "CreateTopics of one topic twice", |broker| {
            let one = Out::new().string("row-43").i32(1).i16(1).i32(0).i32(0).0;
            let body = Out::new().i32(2).raw(&one).raw(&one).i32(5_000).i8(0);
            let mut answer = broker.client().call(19, 2, &body);
            assert_eq!((answer.i32(), answer.i32()), (0, 1));
            assert_eq!((answer.string(), answer.i16()), ("row-43".to_owned(), 42));
            assert_eq!(broker.client().create_topic("row-43", &[]), 0, "it was created");
        }),
        closed(44, "JoinGroup of 2^31 - 1 protocols", [of(11, 1, &join.0)]).peak_kib(1024),
        // A million elements is Kafka's bound too, and weir's for a whole request; as structs these are 88 MB.
        driven(45, "SyncGroup of a million members without name", million_members).peak_kib(96 * 1024),
        closed(46, "DescribeConfigs of 2^31 - 1 resources", [of(32, 1, &[0x7f, 0xff, 0xff, 0xff, 0])])
            .peak_kib(1024),
        // As Kafka: a string ends at 32,767 bytes, so this is no request. The frame is 10 MiB by itself.
        closed(47, "a config value of 10 MiB", [flexible(44, 1, &large_value())]).peak_kib(24 * 1024),
        driven(48, "every count of every API and version, lied about", |broker| lie(broker, "aAt")),
        driven(49, "every length of every API and version, lied about", |broker| lie(broker, "sSbB")),
        driven(50, "every string of every API and version, not UTF-8", not_text),
    ]
}

/// Fetch v12, its header's tagged section in front: so many topics, no forgotten ones, no rack.
fn topics(count: usize) -> Vec<u8> {
    let head = Out::new().i8(0).i32(-1).i32(0).i32(0).i32(1 << 20).i8(0).i32(0).i32(-1);
    head.raw(&uvarint(count as u64 + 1)).raw(&[1, 1, 0].repeat(count)).raw(&[1, 1, 0]).0
}

fn million_topics(broker: &Served) {
    let body = Out::new().raw(&topics(1_000_000));
    let before = broker.cpu();
    let mut answer = broker.client().call(1, 12, &body);
    // A tagged section, no throttling, no error, no session, no topic.
    answer.take(1);
    assert_eq!((answer.i32(), answer.i16(), answer.i32()), (0, 0, 0));
    assert_eq!(answer.take(1), [1]);
    let took = broker.cpu().saturating_sub(before);
    assert!(took < figure(1_000), "{took:?}");
}

fn hundred_thousand_topics(broker: &Served) {
    let mut body = Out::new().i32(100_000);
    for n in 0..100_000 {
        body = body.string(&format!("row-42-{n:05}")).i32(1).i16(1).i32(0).i32(0);
    }
    let mut client = broker.client();
    let mut answer = client.call(19, 2, &body.i32(5_000).i8(0));
    assert_eq!((answer.i32(), answer.i32()), (0, 100_000));
    for _ in 0..100_000 {
        let name = answer.string();
        assert_eq!(answer.i16(), 44, "{name}");
        answer.string();
    }
    assert_eq!(client.list_offset("row-42-00000", -1).0, 3, "a topic was created");
}

fn million_members(broker: &Served) {
    let mut body = vec![0, 2, b'g', 0, 0, 0, 1, 2, b'm', 0];
    body.extend(uvarint(1_000_001));
    body.extend([1, 1, 0].repeat(1_000_000));
    body.push(0);
    let mut answer = broker.client().call(14, 4, &Out::new().raw(&body));
    answer.take(1);
    assert_eq!((answer.i32(), answer.i16()), (0, 25));
}

fn large_value() -> Vec<u8> {
    const VALUE_BYTES: usize = 10 << 20;
    let mut body = vec![2, 2, 2, b't', 2, 2, b'k', 0];
    body.extend(uvarint(VALUE_BYTES as u64 + 1));
    body.resize(body.len() + VALUE_BYTES, b'v');
    body.extend([0, 0, 0, 0]);
    body
}

/// A valid request and where in it the counts and lengths stand.
struct Specimen {
    key: i16,
    version: i16,
    bytes: Vec<u8>,
    marks: Vec<(usize, char)>,
}

/// One request of every API and version that weir serves.
fn specimens() -> Vec<Specimen> {
    let served: BTreeSet<(i16, i16)> =
        weir_broker::supported_apis().flat_map(|(key, _, range)| range.map(move |v| (key, v))).collect();
    let all: Vec<Specimen> = CORPUS
        .lines()
        .chain(OTHERS.lines())
        .map(read)
        .filter(|specimen| served.contains(&(specimen.key, specimen.version)))
        .collect();
    let here = all.iter().map(|specimen| (specimen.key, specimen.version)).collect();
    let missing: Vec<_> = served.difference(&here).collect();
    assert!(missing.is_empty(), "no specimen of these keys and versions: {missing:?}");
    all
}

/// Reads a line of the corpus.
fn read(line: &str) -> Specimen {
    let [key, version, digits, marks] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let mark = |mark: &str| {
        let (at, what) = mark.split_at(mark.len() - 1);
        (at.parse().unwrap(), what.chars().next().unwrap())
    };
    Specimen {
        key: key.parse().unwrap(),
        // C marks what only controllers serve.
        version: version.trim_start_matches('C').parse().unwrap(),
        bytes: (0..digits.len()).step_by(2).map(byte).collect(),
        marks: marks.split(',').map(mark).collect(),
    }
}

/// What may stand in place of a count or length, when so many bytes follow it.
fn lies(what: char, left: usize) -> Vec<Vec<u8>> {
    match what {
        'a' | 'b' => {
            [left as i32 + 1, i32::MAX, i32::MIN, -2].iter().map(|lie| lie.to_be_bytes().to_vec()).collect()
        }
        's' => {
            [left as i16 + 1, i16::MAX, i16::MIN, -2].iter().map(|lie| lie.to_be_bytes().to_vec()).collect()
        }
        _ => [left as u64 + 2, i32::MAX as u64, u64::from(u32::MAX), 1 << 35, u64::MAX].map(uvarint).into(),
    }
}

/// Tells every lie about the fields of these kinds; each closes its connection.
fn lie(broker: &Served, kinds: &str) {
    let mut inputs = Vec::new();
    for specimen in specimens() {
        for (at, what) in specimen.marks.iter().filter(|(_, what)| kinds.contains(*what)) {
            let width = Specimen::width(*what);
            let (head, tail) = (&specimen.bytes[..*at], &specimen.bytes[at + width..]);
            inputs.extend(lies(*what, tail.len()).into_iter().map(|lie| frame(&[head, &lie, tail].concat())));
        }
    }
    assert!(inputs.len() > 2_000, "the corpus lost its requests: {}", inputs.len());
    close_all(broker, &inputs);
}

impl Specimen {
    /// Bytes of the count or length at a mark.
    fn width(what: char) -> usize {
        match what {
            'a' | 'b' => 4,
            's' => 2,
            _ => 1,
        }
    }

    /// What the count or length at a mark says.
    fn says(&self, at: usize, what: char) -> i64 {
        let bytes = &self.bytes[at..at + Self::width(what)];
        match bytes.len() {
            4 => i32::from_be_bytes(bytes.try_into().unwrap()).into(),
            2 => i16::from_be_bytes(bytes.try_into().unwrap()).into(),
            _ => i64::from(bytes[0]),
        }
    }
}

/// What is added here is answered when it does not lie, and its marks are where counts and lengths are.
#[test]
fn the_other_versions_are_requests() {
    let broker = Served::start(&[]);
    for line in OTHERS.lines() {
        let specimen = read(line);
        for (at, what) in &specimen.marks {
            let says = specimen.says(*at, *what);
            assert!((-1..4).contains(&says), "{line}: {at} {says}");
        }
        let mut client = broker.client();
        client.stream.write_all(&frame(&specimen.bytes)).unwrap();
        assert_eq!(client.receive().0, 7, "{line}");
    }
    broker.end();
}

/// Fills every string but the client id (row 29) with bytes that are not text.
fn not_text(broker: &Served) {
    let mut inputs = Vec::new();
    for specimen in specimens() {
        for (at, what) in specimen.marks.iter().filter(|(at, _)| *at != 8) {
            let from = at + Specimen::width(*what);
            let length = match what {
                's' => specimen.says(*at, 's'),
                'S' => specimen.says(*at, 'S') - 1,
                _ => continue,
            };
            let Ok(length @ 1..) = usize::try_from(length) else { continue };
            let mut bytes = specimen.bytes.clone();
            bytes[from..from + length].fill(0xff);
            inputs.push(frame(&bytes));
        }
    }
    assert!(inputs.len() > 200, "the corpus lost its names: {}", inputs.len());
    close_all(broker, &inputs);
}

fn close_all(broker: &Served, inputs: &[Vec<u8>]) {
    std::thread::scope(|scope| {
        for part in inputs.chunks(inputs.len().div_ceil(4)) {
            scope.spawn(|| part.iter().for_each(|input| broker.closes(input)));
        }
    });
}
