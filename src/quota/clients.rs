//! Kafka's quotas by user and client id: which one counts for a client, and the buckets behind it.
//!
//! Precedence as in Kafka (`ClientQuotaManager`): the user with the client id, the user, the client id, each before
//! its default. A quota of a user is shared by all its clients, one of a client id by all its connections.
//! Invariant: [`Clients::version`] is 0 until somebody sets a quota, so that who has none pays one load.
//! Deliberately absent: where quotas are kept, wire formats, throttling itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Bucket, Rate, Steady};

use crate::lock::{Mutex, MutexGuard, rank};

/// Client ids are chosen by clients; beyond so many buckets, or twice as many as were held at the last look, those that
/// nobody holds go.
const MAX_BUCKETS: usize = 10_000;
/// Bytes of a user or a client id that tell it from others.
pub const MAX_NAME_BYTES: usize = 256;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `producer_byte_rate`: bytes of produce requests per second.
    Produce,
    /// `consumer_byte_rate`: bytes of fetched records per second.
    Fetch,
    /// `request_percentage`: time spent on requests, percent of one core.
    Request,
}

/// A user or a client id in the name of a quota.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// Those that have no quota of their own.
    Default,
    /// This one.
    Exact(String),
}

/// Whom a quota is for; one of the two at least.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    /// The user.
    pub user: Option<Name>,
    /// The client id.
    pub client: Option<Name>,
}

/// Every quota that is set.
pub type Quotas = BTreeMap<Entity, BTreeMap<Kind, f64>>;

/// Who shares a bucket: a user, a client id, or a client id of a user.
type Holder = (Option<String>, Option<String>);

/// The quotas of a broker.
#[derive(Debug, Default)]
pub struct Clients {
    version: AtomicU64,
    state: Mutex<rank::ClientQuotas, State>,
    steady: Steady,
}

#[derive(Debug, Default)]
struct State {
    quotas: Arc<Quotas>,
    buckets: HashMap<(Kind, Holder), Arc<Bucket>>,
    /// Buckets that were held when they were last looked through.
    held: usize,
}

/// A limit with the bucket that it counts in.
#[derive(Clone, Debug)]
pub struct Meter {
    rate: Rate,
    bucket: Arc<Bucket>,
}

/// What one client is limited by.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    /// Of which version of the quotas.
    pub version: u64,
    /// Bytes of produce requests.
    pub produce: Option<Meter>,
    /// Bytes of fetched records.
    pub fetch: Option<Meter>,
    /// Nanoseconds of work.
    pub request: Option<Meter>,
}

impl Meter {
    /// Charges `units`, 0 to ask; how long to wait. Nanoseconds.
    #[must_use]
    pub fn charge(&self, units: u64, now_ns: u64) -> u64 {
        self.bucket.charge(self.rate, units, now_ns)
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Produce, Self::Fetch, Self::Request];

    /// Units per second of a quota's value: bytes, or nanoseconds of work.
    fn rate(self, value: f64) -> Option<Rate> {
        let per_second = if self == Self::Request { value * 1e7 } else { value };
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a float converts to the nearest integer there is"
        )]
        Rate::new((per_second as i64).max(1))
    }
}

impl Clients {
    /// Changes with every change of the quotas; 0 while there never was one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Every quota that is set.
    #[must_use]
    pub fn quotas(&self) -> Arc<Quotas> {
        Arc::clone(&self.state().quotas)
    }

    /// Sets all quotas. Buckets of those that stay keep their debt, to be paid at the new rate.
    pub fn replace(&self, quotas: Quotas) {
        let mut state = self.state();
        state.quotas = Arc::new(quotas);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The time of the meters, at `now_ms` of any clock, always the same one.
    pub fn ns(&self, now_ms: i64) -> u64 {
        self.steady.ns(now_ms)
    }

    /// What limits this client.
    #[must_use]
    pub fn of(&self, user: &str, client: &str) -> Meters {
        // Before the look: a change in between is seen at the next one.
        let version = self.version();
        let mut state = self.state();
        let quotas = Arc::clone(&state.quotas);
        let mut meter = |kind: Kind| {
            let (value, holder) = find(&quotas, kind, user, client)?;
            let rate = kind.rate(value)?;
            if state.buckets.len() >= MAX_BUCKETS.max(2 * state.held) {
                state.buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1);
                state.held = state.buckets.len();
            }
            let [user, client] =
                [holder.0, holder.1].map(|name| name.map(|name| shortened(&name).to_owned()));
            let holder = (user, client);
            let bucket = Arc::clone(state.buckets.entry((kind, holder)).or_default());
            Some(Meter { rate, bucket })
        };
        Meters {
            version,
            produce: meter(Kind::Produce),
            fetch: meter(Kind::Fetch),
            request: meter(Kind::Request),
        }
    }

    fn state(&self) -> MutexGuard<'_, rank::ClientQuotas, State> {
        self.state.lock()
    }
}

/// As much of a user or client id as counts.
#[must_use]
pub fn shortened(name: &str) -> &str {
    name.get(..name.floor_char_boundary(MAX_NAME_BYTES)).unwrap_or(name)
}

/// The quota that counts, and who shares it.
fn find(quotas: &Quotas, kind: Kind, user: &str, client: &str) -> Option<(f64, Holder)> {
    let exact = |name: &str| Some(Name::Exact(name.to_owned()));
    let default = || Some(Name::Default);
    let both = || (Some(user.to_owned()), Some(client.to_owned()));
    let [of_user, of_client] = [(Some(user.to_owned()), None), (None, Some(client.to_owned()))];
    let order = [
        (exact(user), exact(client), both()),
        (exact(user), default(), both()),
        (exact(user), None, of_user.clone()),
        (default(), exact(client), both()),
        (default(), default(), both()),
        (default(), None, of_user),
        (None, exact(client), of_client.clone()),
        (None, default(), of_client),
    ];
    order.into_iter().find_map(|(user, client, holder)| {
        let value = quotas.get(&Entity { user, client })?.get(&kind)?;
        Some((*value, holder))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000_000_000;

    fn name(text: &str) -> Option<Name> {
        match text {
            "" => None,
            "*" => Some(Name::Default),
            exact => Some(Name::Exact(exact.to_owned())),
        }
    }

    fn clients(all: &[(&str, &str, f64)]) -> Clients {
        let clients = Clients::default();
        let entity = |user, client| Entity { user: name(user), client: name(client) };
        clients.replace(
            all.iter()
                .map(|(u, c, value)| (entity(u, c), BTreeMap::from([(Kind::Produce, *value)])))
                .collect(),
        );
        clients
    }

    fn rate(clients: &Clients, user: &str, client: &str) -> Option<u64> {
        clients.of(user, client).produce.map(|meter| meter.rate.per_second())
    }

    #[test]
    fn the_nearest_quota_counts_as_in_kafka() {
        let mut all = vec![
            ("u", "c", 1.0),
            ("u", "*", 2.0),
            ("u", "", 3.0),
            ("*", "c", 4.0),
            ("*", "*", 5.0),
            ("*", "", 6.0),
            ("", "c", 7.0),
            ("", "*", 8.0),
        ];
        // Without the nearest, the next one counts.
        for expected in 1..=8 {
            assert_eq!(rate(&clients(&all), "u", "c"), Some(expected));
            all.remove(0);
        }
        assert_eq!(rate(&clients(&[]), "u", "c"), None);
        let others = clients(&[("u", "", 1.0), ("", "c", 2.0)]);
        assert_eq!(rate(&others, "v", "d"), None);
        assert_eq!(rate(&others, "v", "c"), Some(2));
    }

    #[test]
    fn a_user_shares_its_quota_and_each_client_id_has_its_own() {
        let all = clients(&[("u", "", 100.0), ("", "*", 100.0)]);
        let wait = |user, client, units| all.of(user, client).produce.unwrap().charge(units, NOW);
        assert_eq!(wait("u", "a", 100), 1);
        assert!(wait("u", "b", 100) > 900_000_000, "one bucket for all of the user's clients");
        assert_eq!(wait("v", "a", 90), 0);
        assert_eq!(wait("v", "b", 90), 0, "one each");
        assert!(wait("w", "a", 90) > 0, "whoever uses the client id");
    }

    #[test]
    fn a_change_is_seen_and_debt_stays_to_be_paid_at_the_new_rate() {
        let all = clients(&[("u", "", 10.0)]);
        let before = all.of("u", "c");
        assert!(before.produce.unwrap().charge(100, NOW) > 0);
        all.replace(BTreeMap::from([(
            Entity { user: name("u"), client: None },
            BTreeMap::from([(Kind::Produce, 20.0), (Kind::Request, 2.0)]),
        )]));
        assert_ne!(all.version(), before.version);
        let after = all.of("u", "c");
        assert_eq!(after.produce.unwrap().charge(0, NOW), 4_000_000_001);
        assert_eq!(after.request.unwrap().rate.per_second(), 20_000_000);
        assert_eq!(Clients::default().version(), 0);
    }

    #[test]
    fn client_ids_that_come_and_go_leave_no_buckets_behind() {
        let all = clients(&[("", "*", 10.0)]);
        for n in 0..MAX_BUCKETS * 2 {
            drop(all.of("u", &n.to_string()));
        }
        assert!(all.state().buckets.len() <= MAX_BUCKETS);
    }

    #[test]
    fn many_clients_at_once_are_looked_through_seldom_and_leave_little_behind() {
        let all = clients(&[("", "*", 10.0)]);
        let held: Vec<_> = (0..MAX_BUCKETS * 3).map(|n| all.of("u", &n.to_string())).collect();
        assert_eq!(all.state().buckets.len(), held.len());
        assert!(all.state().held >= MAX_BUCKETS, "looked through when they had doubled");
        drop(held);
        for n in 0..MAX_BUCKETS * 6 {
            drop(all.of("v", &format!("v{n}")));
        }
        assert!(all.state().buckets.len() <= MAX_BUCKETS, "{}", all.state().buckets.len());
    }

    #[test]
    fn a_name_of_any_length_costs_little() {
        let all = clients(&[("", "*", 10.0)]);
        drop(all.of("u", &"é".repeat(16_000)));
        let longest =
            all.state().buckets.keys().map(|(_, (_, client))| client.as_ref().map_or(0, String::len)).max();
        assert_eq!(longest, Some(MAX_NAME_BYTES));
    }
}
