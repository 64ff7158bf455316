//! A seeded random life of one group: clients join, sync, beat, commit, leave, crash and lose writes, while the
//! invariants G1-G4, G6, G7 and G9 hold and a replay of the journal, at any cut, gives the live state; also while the
//! journal is written anew again and again.
//!
//! Every plan says "generation:member", so a plan of another generation or leader cannot hide.

use bytes::Bytes;

use super::tests::{Bench, commit_event};
use super::*;

const GROUP: &str = "g";
const SESSION_MS: i64 = 10_000;
const REBALANCE_MS: i64 = 20_000;

/// Numerical Recipes' generator: enough disorder, no dependency, the seed is the whole story.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Out,
    Joining(Token),
    Joined,
    Syncing(Token),
    Reading,
}

#[derive(Debug)]
struct Client {
    number: usize,
    is_static: bool,
    id: String,
    generation: i32,
    /// What the leader was told; empty for others.
    members: Vec<String>,
    phase: Phase,
}

struct Life {
    seed: u64,
    random: Random,
    bench: Bench,
    clients: Vec<Client>,
    ids: u64,
    highest_generation: i32,
    committed: Option<i64>,
    /// Which member each generation's plan came from.
    planners: std::collections::BTreeMap<i32, String>,
    /// What loads from the journal if nobody rewrites it.
    unwritten: Coordinator,
    /// A rewrite that is under way, and where in the journal it began.
    rewrite: Option<(usize, Snapshot)>,
    rewrites: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        let settings = Settings { retention_check_interval_ms: i64::MAX / 2, ..Settings::default() };
        let client = |number: usize| Client {
            number,
            is_static: number.is_multiple_of(3),
            id: String::new(),
            generation: -1,
            members: Vec::new(),
            phase: Phase::Out,
        };
        Self {
            seed,
            random: Random(seed),
            bench: Bench::with(settings),
            clients: (0..5).map(client).collect(),
            ids: 0,
            highest_generation: 0,
            committed: None,
            planners: std::collections::BTreeMap::new(),
            unwritten: Coordinator::new(Settings::default()),
            rewrite: None,
            rewrites: 0,
        }
    }

    /// A step of a rewrite: it begins, appends a piece, or is through and drops what lies before it.
    fn rewrite(&mut self) {
        let Bench { coordinator, journal, .. } = &mut self.bench;
        let Some((from, mut walk)) = self.rewrite.take() else {
            self.rewrite = Some((journal.len(), Snapshot::new(partition_for(GROUP))));
            return;
        };
        let bytes = 1 + self.random.below(200) as usize;
        let piece = coordinator.next_piece(&mut walk, bytes);
        journal.extend(piece);
        if walk.is_through() {
            journal.drain(..from);
            self.rewrites += 1;
        } else {
            self.rewrite = Some((from, walk));
        }
    }

    fn join(&mut self, at: usize) {
        self.ids += 1;
        let range = || ("range".to_owned(), Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\0\0\0\0"));
        let mut protocols = vec![range()];
        match self.random.below(4) {
            0 => protocols.push(("other".to_owned(), Bytes::new())),
            1 => protocols.push(range()),
            _ => {}
        }
        let client = &self.clients[at];
        let join = Join {
            group: GROUP.into(),
            member_id: client.id.clone(),
            new_member_id: format!("m{}", self.ids),
            instance_id: client.is_static.then(|| format!("i{}", client.number)),
            session_timeout_ms: SESSION_MS as i32,
            rebalance_timeout_ms: REBALANCE_MS as i32,
            protocol_type: "consumer".into(),
            protocols,
            requires_known_member_id: true,
            supports_skip_assignment: true,
            ..Join::default()
        };
        let token = self.bench.send(Event::Join(join));
        self.clients[at].phase = Phase::Joining(token);
    }

    fn sync(&mut self, at: usize) {
        let client = &self.clients[at];
        let generation = client.generation;
        let plan = |id: &String| (id.clone(), Bytes::from(format!("{generation}:{id}")));
        let sync = Sync {
            group: GROUP.into(),
            member_id: client.id.clone(),
            generation,
            assignments: client.members.iter().map(plan).collect(),
            ..Sync::default()
        };
        if !client.members.is_empty() {
            let planner = self.planners.entry(generation).or_insert_with(|| client.id.clone());
            let renamed = client.is_static;
            assert!(*planner == client.id || renamed, "seed {}: two plans in {generation}", self.seed);
        }
        let token = self.bench.send(Event::Sync(sync));
        self.clients[at].phase = Phase::Syncing(token);
    }

    fn beat(&mut self, at: usize) {
        let client = &self.clients[at];
        let (member_id, generation) = (client.id.clone(), client.generation);
        let beat = Heartbeat { group: GROUP.into(), member_id, generation, ..Heartbeat::default() };
        let token = self.bench.send(Event::Heartbeat(beat));
        match self.bench.reply(token) {
            Some(Reply::Heartbeat(Ok(()))) => {}
            Some(Reply::Heartbeat(Err(error))) => self.stumble(at, error.clone()),
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }

    fn commit(&mut self, at: usize, offset: i64) {
        let client = &self.clients[at];
        let token = self.bench.send(commit_event(&client.id, client.generation, offset, "m"));
        match self.bench.reply(token) {
            Some(Reply::CommitOffsets(Ok(_))) => {
                let current = client.generation == self.highest_generation;
                assert!(current, "seed {}: a fenced member committed", self.seed);
                self.committed = Some(offset);
            }
            Some(Reply::CommitOffsets(Err(error))) => self.stumble(at, error.clone()),
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }

    /// What a client does with an error: a new life as nobody, or the same one again.
    fn stumble(&mut self, at: usize, error: Error) {
        let client = &mut self.clients[at];
        client.phase = Phase::Out;
        match error {
            Error::MemberIdRequired(id) => client.id = id,
            Error::UnknownMember | Error::IllegalGeneration | Error::FencedInstance => client.id.clear(),
            Error::RebalanceInProgress | Error::Storage => {}
            other => panic!("seed {}: {other}", self.seed),
        }
    }

    /// Reads the answers that came.
    fn listen(&mut self, at: usize) {
        let (Phase::Joining(token) | Phase::Syncing(token)) = self.clients[at].phase else { return };
        match self.bench.reply(token).cloned() {
            None => {}
            Some(Reply::Join(Ok(joined))) => self.joined(at, joined),
            Some(Reply::Sync(Ok(synced))) => {
                let client = &mut self.clients[at];
                client.phase = Phase::Reading;
                let expected = format!("{}:{}", client.generation, client.id);
                // A static member that came back holds its old self's part of the same generation's plan.
                let plan = synced.assignment;
                let own = plan == expected.as_bytes() || client.is_static;
                let generation = format!("{}:", client.generation);
                assert!(own && plan.starts_with(generation.as_bytes()), "seed {}: {plan:?}", self.seed);
            }
            Some(Reply::Join(Err(error)) | Reply::Sync(Err(error))) => self.stumble(at, error),
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }

    fn joined(&mut self, at: usize, joined: Joined) {
        // An answer may be read late, but what it says was the newest when the group gave it.
        self.highest_generation = self.highest_generation.max(joined.generation);
        let client = &mut self.clients[at];
        assert!(joined.generation >= client.generation, "seed {}: back in time", self.seed);
        client.id = joined.member_id;
        client.generation = joined.generation;
        client.phase = Phase::Joined;
        let plans = !joined.skip_assignment && joined.leader == client.id;
        client.members = joined.members.into_iter().filter(|_| plans).map(|m| m.member_id).collect();
    }

    /// The next thing a healthy client does.
    fn go_on(&mut self, at: usize) {
        self.listen(at);
        match self.clients[at].phase {
            Phase::Out => self.join(at),
            Phase::Joined => self.sync(at),
            Phase::Reading => self.beat(at),
            Phase::Joining(_) | Phase::Syncing(_) => {}
        }
    }

    fn step(&mut self) {
        if self.random.below(4) == 0 {
            self.rewrite();
        }
        let before = self.bench.journal.len();
        self.act();
        for record in &self.bench.journal[before..] {
            let now = self.bench.now();
            self.unwritten.replay(&record.key, record.value.as_deref(), now).expect("own record");
        }
        assert!(self.bench.coordinator.pending_count() <= 1_000);
        assert!(self.bench.coordinator.counts_what_is_listed(), "seed {}", self.seed);
        assert_eq!(self.bench.coordinator.bytes(), self.bench.coordinator.bytes_anew(), "seed {}", self.seed);
    }

    fn act(&mut self) {
        // All answers are read first, so that `highest_generation` is what the group really reached.
        (0..self.clients.len()).for_each(|at| self.listen(at));
        let at = self.random.below(self.clients.len() as u64) as usize;
        match self.random.below(20) {
            0 => {
                // A crash: nobody is told, the process starts anew.
                self.clients[at].phase = Phase::Out;
                self.clients[at].id.clear();
            }
            1 => {
                let member_id = std::mem::take(&mut self.clients[at].id);
                let member = LeavingMember { member_id, instance_id: None };
                self.bench.send(Event::Leave(Leave { group: GROUP.into(), members: vec![member] }));
                self.clients[at].phase = Phase::Out;
            }
            2 => self.bench.refuse_writes = !self.bench.refuse_writes,
            3..=5 => {
                let ms = self.random.below(4_000) as i64;
                self.bench.pass(ms);
            }
            6..=8 if self.clients[at].phase == Phase::Reading && !self.bench.refuse_writes => {
                let offset = self.random.below(1_000) as i64;
                self.commit(at, offset);
            }
            _ => self.go_on(at),
        }
    }

    fn ask(coordinator: &mut Coordinator, now: Now) -> (Described, FetchedGroup) {
        let out = coordinator.handle(now, 0, Event::DescribeGroups(vec![GROUP.into()]));
        let Some((_, Reply::DescribeGroups(mut groups))) = out.replies.into_iter().next() else {
            panic!("describe")
        };
        let nobody = Described {
            state: State::Empty,
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        };
        let described = groups.remove(0).1.unwrap_or(nobody);
        let asked = vec![FetchGroup { group: GROUP.into(), ..FetchGroup::default() }];
        let out = coordinator.handle(now, 0, Event::FetchOffsets(asked));
        let Some((_, Reply::FetchOffsets(mut groups))) = out.replies.into_iter().next() else {
            panic!("fetch")
        };
        (described, groups.remove(0).1.unwrap_or_default())
    }

    /// A broker that starts from the journal of this moment knows what the live one knows.
    fn compare_with_replay(&mut self, writes_held: bool) {
        let now = self.bench.now();
        let mut fresh = Coordinator::new(Settings::default());
        for record in &self.bench.journal {
            fresh.replay(&record.key, record.value.as_deref(), now).expect("own record");
        }
        // In everything, to the last byte: a rewrite that is cut anywhere changes nothing.
        assert_eq!(format!("{fresh:?}"), format!("{:?}", self.unwritten), "seed {}", self.seed);
        fresh.finish_loading(now);
        let (live, live_offsets) = Self::ask(&mut self.bench.coordinator, now);
        let (loaded, loaded_offsets) = Self::ask(&mut fresh, now);
        assert_eq!(live_offsets, loaded_offsets, "seed {}", self.seed);
        let offset = live_offsets
            .topics
            .first()
            .and_then(|t| t.partitions[0].1.as_ref().ok()?.as_ref())
            .map(|o| o.offset);
        assert_eq!(offset, self.committed, "seed {}: last writer wins", self.seed);
        // Between generations the journal holds the one before; a refused write is allowed to be missing.
        if writes_held && live.state == State::Stable {
            assert_eq!(live, loaded, "seed {}", self.seed);
        } else if writes_held && live.state == State::Empty {
            assert!(loaded.members.is_empty(), "seed {}", self.seed);
        }
    }

    /// Faults stop: within the longer timeout and five seconds everybody reads (G6).
    fn heal(&mut self) {
        self.bench.refuse_writes = false;
        let end_ms = self.bench.now_ms + REBALANCE_MS.max(SESSION_MS) + 5_000;
        while self.bench.now_ms < end_ms {
            (0..self.clients.len()).for_each(|at| self.go_on(at));
            self.bench.pass(500);
        }
        (0..self.clients.len()).for_each(|at| self.go_on(at));
        let reading =
            self.clients.iter().all(|c| c.phase == Phase::Reading && c.generation == self.highest_generation);
        assert!(reading, "seed {}: {:?}", self.seed, self.clients);
    }
}

#[test]
fn whatever_members_do_the_invariants_hold_and_the_journal_tells_the_whole_state() {
    for seed in 0..200 {
        let mut life = Life::new(seed);
        // A refused write leaves memory ahead of the journal until the next generation.
        let mut writes_held = true;
        for _ in 0..400 {
            life.step();
            writes_held &= !life.bench.refuse_writes;
            life.compare_with_replay(writes_held);
        }
        assert!(life.rewrites > 5, "seed {seed}");
        life.heal();
    }
}
