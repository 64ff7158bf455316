//! Large events as several small ones, each cut when the one before is done, and their replies as one.
//!
//! However large an event is, what is made of it beside itself is one piece at a time and the reply: names are as long as a client
//! likes, and stand in every piece.
//! What an event names twice is done once: of a commit the last mention counts, of anything else the first. The reply has it
//! once, too. A piece that is refused as a whole is the reply for all of them: what the others did stays done.
//! Deliberately absent: the pauses between two pieces (the broker's), what an event of few names still grows with (`step.rs`).

use std::collections::{HashMap, HashSet};

use super::event::{
    Commit, CommitPartition, CommitTopic, DeleteOffsets, Event, FetchGroup, GroupType, Leave, LeavingMember,
    Reply, State, TopicPartitions,
};
use super::step::{BYTES, LOOKS, Step};

/// Events that are handled one after the other.
pub type Pieces = Box<dyn Iterator<Item = Event>>;

/// What the record of an offset takes beside its words.
const RECORD_BYTES: usize = 80;
/// What an offset takes in an answer, with what clients write there.
const ANSWER_BYTES: usize = 256;

impl Event {
    /// The event as ones that are soon handled, of which there is at least one.
    pub fn in_pieces(self) -> Pieces {
        match self {
            Event::CommitOffsets(commit) => Box::new(commits(commit)),
            Event::DeleteOffsets(asked) => Box::new(deletions(asked)),
            Event::FetchOffsets(groups) if !groups.is_empty() => {
                Box::new(groups.into_iter().flat_map(fetches))
            }
            Event::DeleteGroups(ids) => Box::new(chunks(distinct(ids), String::len).map(Event::DeleteGroups)),
            Event::DescribeGroups(ids) => {
                Box::new(chunks(distinct(ids), String::len).map(Event::DescribeGroups))
            }
            Event::Leave(leave) => Box::new(leaves(leave)),
            Event::ListGroups { states, types, after } => {
                let known =
                    [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable];
                let states = narrowed(states, &known.map(State::name));
                let types = narrowed(types, &[GroupType::Classic.name()]);
                Box::new(std::iter::once(Event::ListGroups { states, types, after }))
            }
            small => Box::new(std::iter::once(small)),
        }
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

/// Lists by topic in parts, each of which holds as much as a step may. `bytes_of` says what a topic takes in each part, and what
/// one of its partitions takes beside.
fn cut<T: Clone, P>(
    lists: Vec<(T, Vec<P>)>,
    bytes_of: impl Fn(&T, Option<&P>) -> usize,
) -> impl Iterator<Item = Vec<(T, Vec<P>)>> {
    let mut lists = lists.into_iter().map(|(topic, list)| (topic, list.into_iter()));
    let (mut open, mut begun) = (None, false);
    std::iter::from_fn(move || {
        let (mut part, mut step) = (Vec::new(), Step::new());
        while !step.is_over()
            && let Some((topic, mut left)) = open.take().or_else(|| lists.next())
        {
            step.look();
            step.make(bytes_of(&topic, None));
            let mut list = Vec::new();
            // One at least, so that it goes on.
            for partition in left.by_ref() {
                step.look();
                step.make(bytes_of(&topic, Some(&partition)));
                list.push(partition);
                if step.is_over() {
                    break;
                }
            }
            if left.len() > 0 {
                open = Some((topic.clone(), left));
            }
            part.push((topic, list));
        }
        // No names are a piece as well: it has its answer.
        let is_there = !part.is_empty() || !begun;
        begun = true;
        is_there.then_some(part)
    })
}

fn commits(mut commit: Commit) -> impl Iterator<Item = Event> {
    let group = commit.group.len();
    let topics = last_mentions(std::mem::take(&mut commit.topics)).into_iter();
    let lists = topics.map(|CommitTopic { name, id, gone, partitions }| ((name, id, gone), partitions));
    let parts = cut(lists.collect(), move |(name, ..), partition: Option<&CommitPartition>| {
        partition.map_or(0, |one| RECORD_BYTES + group + name.len() + one.metadata.len())
    });
    let topic = |((name, id, gone), partitions)| CommitTopic { name, id, gone, partitions };
    parts.map(move |part| {
        let topics = part.into_iter().map(topic).collect();
        Event::CommitOffsets(Commit { topics, ..commit.clone() })
    })
}

/// Which partitions were mentioned. Names have numbers here, so that a long one is looked at once for all of its partitions.
#[derive(Default)]
struct Mentions<'a> {
    names: HashMap<&'a str, u32>,
    last: u32,
    seen: HashSet<(u32, i32)>,
}

impl<'a> Mentions<'a> {
    /// Says of partitions of a topic, so many, whether they were not mentioned yet.
    fn of(&mut self, name: &'a str, count: usize) -> impl FnMut(i32) -> bool {
        self.last += 1;
        let name = *self.names.entry(name).or_insert(self.last);
        let seen = &mut self.seen;
        seen.reserve(count);
        move |partition| seen.insert((name, partition))
    }
}

/// A partition that is mentioned again later counts there.
fn last_mentions(mut topics: Vec<CommitTopic>) -> Vec<CommitTopic> {
    let mut mentions = Mentions::default();
    let mut last = Vec::new();
    for topic in topics.iter().rev() {
        let mut is_new = mentions.of(&topic.name, topic.partitions.len());
        last.extend(topic.partitions.iter().rev().map(|one| is_new(one.partition)));
    }
    for topic in &mut topics {
        topic.partitions.retain(|_| last.pop().unwrap_or(true));
    }
    topics
}

/// A partition that was mentioned before counted there.
fn first_mentions(mut topics: Vec<TopicPartitions>) -> Vec<TopicPartitions> {
    let mut mentions = Mentions::default();
    let mut first = Vec::new();
    for topic in &topics {
        let is_new = mentions.of(&topic.name, topic.partitions.len());
        first.extend(topic.partitions.iter().copied().map(is_new));
    }
    let mut first = first.into_iter();
    topics.retain_mut(|topic| {
        let named = topic.partitions.len();
        topic.partitions.retain(|_| first.next().unwrap_or(true));
        named == 0 || !topic.partitions.is_empty()
    });
    topics
}

/// Parts of `topics`, each of which names few partitions. `bytes_of` gets a name and whether it is for one of its partitions.
fn parts(
    topics: Vec<TopicPartitions>,
    bytes_of: impl Fn(&str, bool) -> usize,
) -> impl Iterator<Item = Vec<TopicPartitions>> {
    let lists = first_mentions(topics).into_iter().map(|topic| (topic.name, topic.partitions));
    let topic = |(name, partitions)| TopicPartitions { name, partitions };
    let parts = cut(lists.collect(), move |name: &String, partition: Option<&i32>| {
        bytes_of(name, partition.is_some())
    });
    parts.map(move |part| part.into_iter().map(topic).collect())
}

fn deletions(asked: DeleteOffsets) -> impl Iterator<Item = Event> {
    let DeleteOffsets { group, topics } = asked;
    let words = RECORD_BYTES + group.len();
    // Every record bears all the names.
    let parts = parts(topics, move |name, is_partition| if is_partition { words + name.len() } else { 0 });
    parts.map(move |topics| Event::DeleteOffsets(DeleteOffsets { group: group.clone(), topics }))
}

fn fetches(asked: FetchGroup) -> Pieces {
    let FetchGroup { group, topics, after } = asked;
    let Some(topics) = topics else {
        return Box::new(std::iter::once(Event::FetchOffsets(vec![FetchGroup { group, topics, after }])));
    };
    let parts = parts(topics, |name, is_partition| if is_partition { ANSWER_BYTES } else { name.len() });
    Box::new(parts.map(move |topics| {
        let topics = Some(topics);
        Event::FetchOffsets(vec![FetchGroup { group: group.clone(), topics, after: after.clone() }])
    }))
}

fn leaves(leave: Leave) -> impl Iterator<Item = Event> {
    let Leave { group, members } = leave;
    let bytes_of = |member: &LeavingMember| member.member_id.len();
    chunks(members, bytes_of).map(move |members| Event::Leave(Leave { group: group.clone(), members }))
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
