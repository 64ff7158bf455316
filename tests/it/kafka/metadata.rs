//! What one connection was told exists, every connection can use at once.
//!
//! Deliberately absent: retries. One retriable error fails the test.

use super::{Client, House, NOBODY, Out, batch};

const ROUNDS: usize = 1_000;

#[test]
fn nobody_waits_for_metadata() {
    let house = House::ephemeral();
    let (mut creator, mut user) = (house.client(), house.client());
    let records = batch(NOBODY, 1, b"first");
    for round in 0..ROUNDS {
        let topic = format!("topic-{round}");
        let code = if round % 2 == 0 {
            creator.create_topic(&topic, &[])
        } else {
            auto_create(&mut creator, &topic)
        };
        assert_eq!(code, 0, "create {topic}");
        let (code, offset, _) = user.produce(&topic, -1, &records);
        assert_eq!((code, offset), (0, 0), "produce to {topic}");
        assert_eq!(user.list_offset(&topic, -1), (0, 1), "latest of {topic}");
        assert_eq!(user.list_offset(&topic, -2), (0, 0), "earliest of {topic}");
        join_commit_and_read_back(&mut user, &format!("group-{round}"), &topic);
    }
    house.shutdown();
}

/// Metadata v4 that may create; the error code of the topic.
fn auto_create(client: &mut Client, topic: &str) -> i16 {
    let mut answer = client.call(3, 4, &Out::new().i32(1).string(topic).i8(1));
    answer.i32();
    for _ in 0..answer.i32() {
        answer.i32();
        answer.string();
        answer.i32();
        answer.string();
    }
    answer.string();
    answer.i32();
    assert_eq!(answer.i32(), 1);
    answer.i16()
}

/// JoinGroup v4: error code, generation, member id.
fn join(client: &mut Client, group: &str, member: &str) -> (i16, i32, String) {
    let body = Out::new().string(group).i32(10_000).i32(10_000).string(member).string("consumer");
    let mut answer = client.call(11, 4, &body.i32(1).string("range").blob(b"subscription"));
    answer.i32();
    let (code, generation) = (answer.i16(), answer.i32());
    answer.string();
    answer.string();
    (code, generation, answer.string())
}

fn join_commit_and_read_back(client: &mut Client, group: &str, topic: &str) {
    let (code, _, member) = join(client, group, "");
    assert_eq!(code, 79, "the first join of {group} hands out a member id");
    let (code, generation, same) = join(client, group, &member);
    assert_eq!((code, &same), (0, &member), "join {group}");

    let body = Out::new().string(group).i32(generation).string(&member);
    let mut answer = client.call(14, 1, &body.i32(1).string(&member).blob(b"mine"));
    answer.i32();
    assert_eq!((answer.i16(), answer.blob()), (0, b"mine".to_vec()), "sync {group}");

    let body = Out::new().string(group).i32(generation).string(&member).i32(1).string(topic).i32(1);
    let mut answer = client.call(8, 5, &body.i32(0).i64(1).string("note"));
    answer.i32();
    answer.i32();
    answer.string();
    answer.i32();
    answer.i32();
    assert_eq!(answer.i16(), 0, "commit of {group}");

    let mut answer = client.call(9, 1, &Out::new().string(group).i32(1).string(topic).i32(1).i32(0));
    answer.i32();
    answer.string();
    answer.i32();
    answer.i32();
    assert_eq!(answer.i64(), 1, "committed offset of {group}");
    assert_eq!(answer.string(), "note");
    assert_eq!(answer.i16(), 0, "offset fetch of {group}");
}
