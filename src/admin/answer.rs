//! One request and its answer: host, method, path.
//!
//! A page in somebody's browser can make it call a name that suddenly points here (DNS rebinding). Addresses and names
//! without a dot cannot be such a name; every other one must be in `admin.hosts`. Nothing here is for other origins.
//! Deliberately absent: the metrics' text (`exposition.rs`), shards (`shards.rs`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::time::timeout;

use super::door::{Phase, Shared};
use super::exposition::{Labels, Pages, Reply};
use super::families::{self, Family};
use super::redpanda;
use super::shards;
use crate::broker::{Reason, seen_weight};

const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
/// How long an answer may wait for its memory.
pub(super) const MEMORY_TIME: Duration = Duration::from_secs(5);
/// Prometheus' text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const INDEX: &str = "weir\n/livez    it lives\n/readyz   it serves; what is degraded\n/healthz  it serves and nothing is degraded\n/metrics  Prometheus' text format\n\
    /public_metrics  as Redpanda names them\n\
    /v1/topics/TOPIC/shards  the shards of a topic, and (POST) changes of them\n";

pub(super) async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let mut response = match (refuse(shared, &head), shards::topic_of(path)) {
        (Some((status, why)), _) => whole(status, TEXT, format!("{why}\n")),
        (None, Some(topic)) => shards::answer(shared, &head, body, topic).await,
        (None, None) if !reads(&head) => {
            whole(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n".to_owned())
        }
        (None, None) => match path {
            "/" => whole(StatusCode::OK, TEXT, INDEX.to_owned()),
            "/livez" => whole(StatusCode::OK, JSON, r#"{"status":"live"}"#.to_owned()),
            "/readyz" | "/v1/status/ready" => ready(shared, StatusCode::OK),
            "/healthz" => ready(shared, StatusCode::SERVICE_UNAVAILABLE),
            "/metrics" => metrics(shared, families::FAMILIES).await,
            "/public_metrics" => metrics(shared, redpanda::FAMILIES).await,
            _ => whole(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
        },
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn refuse(shared: &Shared, head: &Parts) -> Option<(StatusCode, &'static str)> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Some((StatusCode::BAD_REQUEST, "expected one Host header"));
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return Some((StatusCode::BAD_REQUEST, "the Host header is none"));
    };
    let named = head.uri.authority().unwrap_or(&host);
    let allowed = [named, &host].into_iter().all(|name| is_allowed(name.host(), &shared.settings.hosts));
    if !allowed {
        return Some((StatusCode::MISDIRECTED_REQUEST, "this host name is not in admin.hosts"));
    }
    // A browser says whose page it asks for; nobody else does.
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    let foreign = origins.any(|origin| !is_own(origin.as_bytes(), host.as_str()));
    (foreign && !reads(head))
        .then_some((StatusCode::FORBIDDEN, "pages of other sites may not change anything"))
}

/// Whether an `Origin` is a page of this door.
fn is_own(origin: &[u8], host: &str) -> bool {
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()))
}

/// Whether a request only looks.
pub(super) fn reads(head: &Parts) -> bool {
    matches!(head.method, Method::GET | Method::HEAD)
}

/// Whether the door may be called by this name.
fn is_allowed(host: &str, allowed: &[String]) -> bool {
    let host = host.trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let plain = !host.contains('.') || address.parse::<IpAddr>().is_ok();
    plain || allowed.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(host))
}

/// What `/readyz` and `/healthz` tell.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Why>,
}

/// One reason for being degraded.
#[derive(Serialize)]
struct Why {
    kind: &'static str,
    /// It holds until somebody mends it; else it happened within the last minute.
    standing: bool,
    text: String,
}

/// A degraded broker is ready: it serves what it can, and whoever restarted it or took it away would lose that, too.
/// `degraded` is the status of its answer, for those who ask whether all is well.
fn ready(shared: &Shared, degraded: StatusCode) -> Response<Reply> {
    let phase = shared.phase.borrow().clone();
    let (status, word, reasons) = match phase {
        Phase::Booting => (StatusCode::SERVICE_UNAVAILABLE, "booting", Vec::new()),
        Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", Vec::new()),
        Phase::Ready { core, .. } => match core.reasons() {
            reasons if reasons.is_empty() => (StatusCode::OK, "ready", reasons),
            reasons => (degraded, "degraded", reasons),
        },
    };
    let why = |reason: Reason| Why { kind: reason.kind.name(), standing: reason.standing, text: reason.text };
    let health = Health { status: word, reasons: reasons.into_iter().map(why).collect() };
    whole(status, JSON, serde_json::to_string(&health).unwrap_or_default())
}

async fn metrics(shared: &Arc<Shared>, table: &'static [Family]) -> Response<Reply> {
    let unavailable = |why: &str| whole(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n"));
    let phase = shared.phase.borrow().clone();
    let Phase::Ready { core, observer } = phase else { return unavailable("the broker does not serve") };
    let Ok(permit) = Arc::clone(&shared.scrapes).try_acquire_owned() else {
        return unavailable("too many read the metrics at a time");
    };
    let mut lease = shared.answers.account().lease();
    let bytes = seen_weight(&core);
    if timeout(MEMORY_TIME, lease.grow(bytes, bytes)).await.is_err() {
        return unavailable("too many read answers at a time");
    }
    drop(core);
    // A look comes to its end when its client goes away, and holds its place and its memory until then.
    let look = tokio::spawn(async move {
        let seen = observer.lock().await.as_mut()?.look().await;
        lease.settle(seen.bytes());
        Some((seen, permit, lease))
    });
    let Ok(Some((seen, permit, lease))) = look.await else {
        return unavailable("the broker does not serve");
    };
    let labels = Labels::new(&shared.settings.labels);
    let pages = Pages::new(table, seen, &shared.census, labels, (permit, lease));
    let mut response = Response::new(Reply::Pages(Box::new(pages)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(EXPOSITION));
    response
}

pub(super) fn whole(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_plain_names_are_allowed_and_others_only_by_name() {
        let allowed = ["metrics.example.org".to_owned()];
        for host in ["127.0.0.1", "10.0.0.1", "[::1]", "localhost", "weir", "Metrics.Example.org", "weir."] {
            assert!(is_allowed(host, &allowed), "{host}");
        }
        for host in
            ["example.org", "127.0.0.1.example.org", "localhost.example.org", "metrics.example.org.evil.com"]
        {
            assert!(!is_allowed(host, &allowed), "{host}");
            assert!(is_allowed(host, &["*".to_owned()]), "{host}");
        }
    }
}
