//! Large events as several small ones, cut before anybody waits for them, and their replies as one.
//!
//! What an event names twice is done once: of a commit the last mention counts, of anything else the first. The reply has it
//! once, too. A piece that is refused as a whole is the reply for all of them: what the others did stays done.
//! Deliberately absent: the pauses between two pieces (the broker's), what an event of few names still grows with (`step.rs`).

use std::collections::HashSet;

use super::event::{
    Commit, CommitPartition, CommitTopic, DeleteOffsets, Event, FetchGroup, GroupType, Leave, LeavingMember,
    Reply, State, TopicPartitions,
};
use super::step::{BYTES, LOOKS};

/// What the record of an offset takes beside its words.
const RECORD_BYTES: usize = 80;
/// What an offset takes in an answer, with what clients write there.
const ANSWER_BYTES: usize = 256;

impl Event {
    /// The event as one that is soon handled, and what is to be handled after it.
    pub fn in_pieces(self) -> (Self, Vec<Self>) {
        let mut pieces = match self {
            Event::CommitOffsets(commit) => commits(commit),
            Event::DeleteOffsets(asked) => deletions(asked),
            Event::FetchOffsets(groups) if !groups.is_empty() => {
                groups.into_iter().flat_map(fetches).collect()
            }
            Event::DeleteGroups(ids) => chunks(distinct(ids), String::len).map(Event::DeleteGroups).collect(),
            Event::DescribeGroups(ids) => {
                chunks(distinct(ids), String::len).map(Event::DescribeGroups).collect()
            }
            Event::Leave(leave) => leaves(leave),
            Event::ListGroups { states, types, after } => {
                let known =
                    [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable];
                let states = narrowed(states, &known.map(State::name));
                let types = narrowed(types, &[GroupType::Classic.name()]);
                return (Event::ListGroups { states, types, after }, Vec::new());
            }
            small => return (small, Vec::new()),
        };
        let first = pieces.remove(0);
        (first, pieces)
    }
}

impl Reply {
    /// The reply to an event whose pieces were answered by this and, then, by `next`.
    pub fn and(self, next: Self) -> Self {
        match (self, next) {
            (Reply::CommitOffsets(Ok(mut all)), Reply::CommitOffsets(Ok(more))) => {
                all.extend(more);
                Reply::CommitOffsets(Ok(all))
            }
            (Reply::DeleteOffsets(Ok(mut all)), Reply::DeleteOffsets(Ok(more))) => {
                all.extend(more);
                Reply::DeleteOffsets(Ok(all))
            }
            (Reply::Leave(Ok(mut all)), Reply::Leave(Ok(more))) => {
                all.extend(more);
                Reply::Leave(Ok(all))
            }
            (Reply::ListGroups(Ok(mut all)), Reply::ListGroups(Ok(more))) => {
                all.extend(more);
                Reply::ListGroups(Ok(all))
            }
            (Reply::DeleteGroups(mut all), Reply::DeleteGroups(more)) => {
                all.extend(more);
                Reply::DeleteGroups(all)
            }
            (Reply::DescribeGroups(mut all), Reply::DescribeGroups(more)) => {
                all.extend(more);
                Reply::DescribeGroups(all)
            }
            (Reply::FetchOffsets(mut all), Reply::FetchOffsets(more)) => {
                for (id, found) in more {
                    match (all.last_mut().filter(|(last, _)| *last == id), found) {
                        (Some((_, Ok(before))), Ok(found)) => before.extend(found),
                        (Some((_, before)), Err(error)) => *before = Err(error),
                        (Some((_, Err(_))), Ok(_)) => {}
                        (None, found) => all.push((id, found)),
                    }
                }
                Reply::FetchOffsets(all)
            }
            (done, next) => {
                if next.is_refusal() {
                    next
                } else {
                    done
                }
            }
        }
    }

    /// The event was refused as a whole.
    fn is_refusal(&self) -> bool {
        match self {
            Reply::CommitOffsets(result) | Reply::DeleteOffsets(result) => result.is_err(),
            Reply::Leave(result) => result.is_err(),
            Reply::ListGroups(result) => result.is_err(),
            _ => false,
        }
    }
}

/// Lists by topic, cut where a part holds as much as a step may.
struct Cut<T, P> {
    parts: Vec<Vec<(T, Vec<P>)>>,
    names: usize,
    bytes: usize,
}

impl<T: Clone, P> Cut<T, P> {
    fn new() -> Self {
        Self { parts: vec![Vec::new()], names: 0, bytes: 0 }
    }

    fn push(&mut self, topic: T, partitions: Vec<P>, bytes_of: impl Fn(&P) -> usize) {
        self.begin(&topic);
        for partition in partitions {
            if self.is_full() {
                self.begin(&topic);
            }
            self.names += 1;
            self.bytes += bytes_of(&partition);
            if let Some((_, list)) = self.parts.last_mut().and_then(|part| part.last_mut()) {
                list.push(partition);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.names >= LOOKS || self.bytes >= BYTES
    }

    fn begin(&mut self, topic: &T) {
        if self.is_full() {
            self.parts.push(Vec::new());
            (self.names, self.bytes) = (0, 0);
        }
        self.names += 1;
        if let Some(part) = self.parts.last_mut() {
            part.push((topic.clone(), Vec::new()));
        }
    }
}

fn commits(mut commit: Commit) -> Vec<Event> {
    let topics = std::mem::take(&mut commit.topics);
    let mut cut = Cut::new();
    for topic in last_mentions(topics) {
        let CommitTopic { name, id, gone, partitions } = topic;
        let words = RECORD_BYTES + commit.group.len() + name.len();
        cut.push((name, id, gone), partitions, |partition: &CommitPartition| {
            words + partition.metadata.len()
        });
    }
    let topic = |((name, id, gone), partitions)| CommitTopic { name, id, gone, partitions };
    let piece = |topics: Vec<_>| Commit { topics: topics.into_iter().map(topic).collect(), ..commit.clone() };
    cut.parts.into_iter().map(|topics| Event::CommitOffsets(piece(topics))).collect()
}

/// A partition that is mentioned again later counts there.
fn last_mentions(mut topics: Vec<CommitTopic>) -> Vec<CommitTopic> {
    let mut seen = HashSet::new();
    let mut last = Vec::new();
    for topic in topics.iter().rev() {
        let of = |one: &CommitPartition| seen.insert((topic.name.as_str(), one.partition));
        last.extend(topic.partitions.iter().rev().map(of));
    }
    for topic in &mut topics {
        topic.partitions.retain(|_| last.pop().unwrap_or(true));
    }
    topics
}

/// A partition that was mentioned before counted there.
fn first_mentions(mut topics: Vec<TopicPartitions>) -> Vec<TopicPartitions> {
    let mut seen = HashSet::new();
    let mut first = Vec::new();
    for topic in &topics {
        first.extend(topic.partitions.iter().map(|one| seen.insert((topic.name.as_str(), *one))));
    }
    let mut first = first.into_iter();
    topics.retain_mut(|topic| {
        let named = topic.partitions.len();
        topic.partitions.retain(|_| first.next().unwrap_or(true));
        named == 0 || !topic.partitions.is_empty()
    });
    topics
}

/// Parts of `topics`, each of which names few partitions, about `bytes` each.
fn parts(topics: Vec<TopicPartitions>, bytes: usize) -> Vec<Vec<TopicPartitions>> {
    let mut cut = Cut::new();
    for TopicPartitions { name, partitions } in first_mentions(topics) {
        let bytes = bytes + name.len();
        cut.push(name, partitions, |_| bytes);
    }
    let topic = |(name, partitions)| TopicPartitions { name, partitions };
    cut.parts.into_iter().map(|part| part.into_iter().map(topic).collect()).collect()
}

fn deletions(asked: DeleteOffsets) -> Vec<Event> {
    let DeleteOffsets { group, topics } = asked;
    let piece = |topics| Event::DeleteOffsets(DeleteOffsets { group: group.clone(), topics });
    parts(topics, RECORD_BYTES + group.len()).into_iter().map(piece).collect()
}

fn fetches(asked: FetchGroup) -> Vec<Event> {
    let FetchGroup { group, topics, after } = asked;
    let piece =
        |topics| Event::FetchOffsets(vec![FetchGroup { group: group.clone(), topics, after: after.clone() }]);
    match topics {
        None => vec![piece(None)],
        Some(topics) => parts(topics, ANSWER_BYTES).into_iter().map(|topics| piece(Some(topics))).collect(),
    }
}

fn leaves(leave: Leave) -> Vec<Event> {
    let Leave { group, members } = leave;
    let bytes_of = |member: &LeavingMember| member.member_id.len();
    chunks(members, bytes_of).map(|members| Event::Leave(Leave { group: group.clone(), members })).collect()
}

fn distinct(ids: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    let first: Vec<bool> = ids.iter().map(|id| seen.insert(id.as_str())).collect();
    ids.into_iter().zip(first).filter_map(|(id, first)| first.then_some(id)).collect()
}

fn chunks<T>(all: Vec<T>, bytes_of: impl Fn(&T) -> usize) -> impl Iterator<Item = Vec<T>> {
    let mut all = all.into_iter();
    let mut begun = false;
    std::iter::from_fn(move || {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < LOOKS
            && bytes < BYTES
            && let Some(one) = all.next()
        {
            bytes += bytes_of(&one);
            chunk.push(one);
        }
        // No names are a piece as well: it has its answer.
        let is_there = !chunk.is_empty() || !begun;
        begun = true;
        is_there.then_some(chunk)
    })
}

/// The names of a filter that something can have. One that fits nothing stays one that does.
fn narrowed(mut filter: Vec<String>, known: &[&str]) -> Vec<String> {
    let fits = |name: &str| filter.iter().any(|asked| asked.eq_ignore_ascii_case(name));
    let fitting: Vec<String> = known.iter().filter(|name| fits(name)).map(ToString::to_string).collect();
    if fitting.is_empty() {
        filter.truncate(1);
        return filter;
    }
    fitting
}
