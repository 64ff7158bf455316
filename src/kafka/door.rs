//! The door on its listeners: what their connections share.
//!
//! Deliberately absent: who is let in (`listen`), what flows over a connection (`connection.rs`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::answers::Answers;
use super::connection::Connection;
use crate::broker::Core;
use crate::config::ConnectionSettings;
use crate::listen::{self, BindError, Budget, Census, Doorway, Guest, Host, Limits, Stop};

/// One listener of the Kafka door.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name, for example `PLAINTEXT`.
    pub name: String,
    /// Where to listen; the first at least.
    pub addrs: Vec<SocketAddr>,
}

/// What the connections of one listener share.
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    /// Name of the listener.
    pub(super) listener: String,
    /// Memory of requests.
    pub(super) requests: Arc<Budget>,
    pub(super) answers: Arc<Answers>,
    pub(super) stop: Stop,
}

impl Shared {
    pub(super) fn settings(&self) -> &ConnectionSettings {
        self.core.connection_settings()
    }
}

impl Host for Shared {
    fn limits(&self, ip: IpAddr) -> Limits {
        let now = self.core.admission();
        let (connections, of_ip) = (now.connections, now.connections_of(ip));
        Limits::Clients { connections, of_ip, per_second: now.per_second }
    }

    fn serve(self: Arc<Self>, guest: Guest) -> impl Future<Output = ()> + Send + 'static {
        Connection::new(guest, self).serve()
    }
}

/// Binds every listener and starts to accept.
///
/// # Errors
/// [`BindError`].
pub fn open(core: &Arc<Core>, census: &Arc<Census>, listeners: Vec<Listener>) -> Result<Doorway, BindError> {
    let settings = core.connection_settings();
    let requests = Budget::new("queued.max.request.bytes", settings.max_in_flight_bytes, None);
    let answers = Answers::new(settings.max_response_bytes);
    answers.watch(core);
    [&requests, &answers.budget].into_iter().for_each(|budget| census.show(budget));
    let mut doorway = Doorway::new("kafka", census);
    let mut bound = Vec::new();
    for listener in listeners {
        bound.push((listener.name, listen::bind(listener.addrs, &settings.sockets)?));
    }
    for (listener, sockets) in bound {
        let (core, stop) = (Arc::clone(core), doorway.stop());
        let (requests, answers) = (Arc::clone(&requests), Arc::clone(&answers));
        let shared = Arc::new(Shared { core, listener, requests, answers, stop });
        doorway.accept(&shared.listener, sockets, &shared);
    }
    Ok(doorway)
}
