//! One request and its response: head, signature, body, action, dialect.
//!
//! Order: what the head says is checked first, then the body is read within its limits, then parsed, then checked
//! against the action's fields, then answered. Every response has a request id. Memory is asked for before it is used: for a
//! body as it comes, for what is made of it, for an answer before it is made (`listen`'s budgets). A head is looked at where it
//! comes, and little of it is left when its request waits for anything: a connection may have begun many of them.
//! Web pages are served only where `kinesis.allowed.origins` names them: a browser says where a page came from (Origin) and
//! an SDK does not, and a page that reached this door under a name of its own (DNS rebinding) could sign as well as anybody
//! while any signature is let in. The host name itself says nothing: in a container network clients call the broker by
//! whatever name it was given.
//! Deliberately absent: what an action does (`action/`).

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::time::Instant;
use uuid::Uuid;

use super::action::{self, Context, How, Per, TABLE};
use super::door::Shared;
use super::error::{Fault, Kind};
use super::reply::{Answer, Busy, Connection, Reply};
use super::signature::{Proof, Signature};
use super::writer::{Form, Writer};
use super::{cbor, json, shape};
use crate::broker::Operation;
use crate::listen::{Duty, Lease};

/// Longest head: request line and headers.
pub(super) const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Longest body of a put: 10 MiB of data in base64, and a little for what stands around it.
const BODY_BYTES_MAX: usize = 15 << 20;
/// Longest body of any other operation: a token of a megabyte, and a little.
const CONTROL_BYTES_MAX: usize = 2 << 20;
/// How long a body may take, less what it waited for memory.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a request may wait for memory at a time.
const MEMORY_TIME: Duration = Duration::from_secs(10);
/// What a request takes while it is in flight, beside its body and its answer: its stream, its task, what is left of its head.
const REQUEST_BYTES: usize = 8 * 1024;
const SERVICE: &str = "Kinesis_20131202.";
const REQUEST_ID: &str = "x-amzn-requestid";
/// How long a browser may remember that a page may call, seconds, as the service says.
const PREFLIGHT_AGE: &str = "172800";
/// What a page may read of a response.
const EXPOSED: &str =
    "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date";

/// In what words a refusal is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tongue {
    Of(Form),
    /// To whoever says neither what it sends nor in what form.
    Xml,
}

/// What is left of a request's head, and owns what it needs.
pub(super) struct Asked {
    what: What,
    /// The page that asks, where it is one that may.
    page: Option<HeaderValue>,
    /// Counts this, and what a request takes while it is in flight.
    lease: Lease,
}

enum What {
    /// The head is none.
    Broken(StatusCode),
    Health,
    /// A page asks whether it may ask: headers and method.
    Preflight([Option<HeaderValue>; 2]),
    /// It is not served.
    Refused(Fault, Tongue),
    Call(Call),
}

/// A call of an operation that there is.
struct Call {
    form: Form,
    /// Of the table.
    place: usize,
    operation: Arc<Operation>,
    /// Who signed it, or why it is not let in.
    signed: Result<Signed, Fault>,
}

/// What a signature said.
struct Signed {
    region: String,
    proof: Proof,
}

/// Takes from the head what its answer needs; `is_bare` when no body follows. To be called where the head comes: it waits for nothing.
pub(super) fn look(shared: &Shared, head: &Parts, is_bare: bool, client: &Connection) -> Asked {
    let mut lease = client.requests.lease();
    lease.settle(REQUEST_BYTES);
    if let Some(status) = refuse_head(head) {
        return Asked { what: What::Broken(status), page: None, lease };
    }
    if head.method == Method::GET && head.uri.path().starts_with("/_health") {
        return Asked { what: What::Health, page: None, lease };
    }
    let tongue = tongue_of(head, is_bare);
    // What little is its own a connection may always ask for.
    if lease.is_shared() && lease.budget().is_used_up() {
        lease.shrink(0);
        return Asked { what: What::Refused(too_much(), tongue), page: None, lease };
    }
    let origin = head.headers.get(header::ORIGIN);
    let page = origin.map(owned);
    if origin.is_some_and(|origin| !is_allowed(origin, &shared.settings.origins)) {
        let fault = Fault::new(
            Kind::AccessDenied,
            "Pages of this origin are not served; kinesis.allowed.origins names those that are.",
        );
        return Asked { what: What::Refused(fault, tongue), page: None, lease };
    }
    let what = if page.is_some() && head.method == Method::OPTIONS {
        let asked = [header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_REQUEST_METHOD];
        What::Preflight(asked.map(|name| head.headers.get(name).map(owned)))
    } else {
        called(shared, head, tongue).map_or_else(|fault| What::Refused(fault, tongue), What::Call)
    };
    Asked { what, page, lease }
}

/// A value that holds on to nothing of what it came with.
fn owned(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}

/// Which operation is called.
fn called(shared: &Shared, head: &Parts, tongue: Tongue) -> Result<Call, Fault> {
    let nameless =
        || Fault::new(Kind::AccessDenied, "Unable to determine service/operation name to be authorized");
    if head.method != Method::POST || head.uri.path() != "/" {
        return Err(nameless());
    }
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let Tongue::Of(form) = tongue else {
        let named =
            target.split_once('.').is_some_and(|(service, name)| !service.is_empty() && !name.is_empty());
        return Err(if named { Fault::new(Kind::UnknownOperation, "") } else { nameless() });
    };
    let name = target.strip_prefix(SERVICE).ok_or_else(|| Fault::new(Kind::UnknownOperation, ""))?;
    let place = action::find(name)?;
    let operation = Arc::clone(shared.operations.get(place).ok_or_else(Fault::internal)?);
    let signed = Signature::read(head).and_then(|signature| {
        let proof = signature.admit(&shared.gate, head, shared.core.now_ms())?;
        Ok(Signed { region: signature.region.to_owned(), proof })
    });
    Ok(Call { form, place, operation, signed })
}

/// Answers a request; `busy` stays with the response.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    asked: Asked,
    body: Incoming,
    busy: Busy,
) -> Response<Reply> {
    let Asked { what, page, lease } = asked;
    let id = shared.core.clock().uuid();
    let is_preflight = matches!(what, What::Preflight(_));
    let mut response = match what {
        What::Broken(status) => {
            // What follows on this connection cannot be told apart from what came.
            let mut response = status_only(status, busy);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
        What::Health => {
            let lease = busy.0.answers.lease();
            whole(StatusCode::OK, Some("text/plain"), vec![b"ok\n".to_vec()], lease, busy)
        }
        What::Preflight(asked) => preflight(asked, busy),
        What::Refused(fault, tongue) => {
            drop(body);
            refusal(&fault, tongue, busy).await
        }
        What::Call(call) => spoken(shared, call, body, lease, busy).await,
    };
    let headers = response.headers_mut();
    if let Some(page) = page {
        if !is_preflight {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    let id = id.to_string();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Ok(value) = HeaderValue::from_str(&base64_simd::STANDARD.encode_to_string(id)) {
        headers.insert("x-amz-id-2", value);
    }
    response
}

fn preflight(asked: [Option<HeaderValue>; 2], busy: Busy) -> Response<Reply> {
    let mut response = status_only(StatusCode::OK, busy);
    let headers = response.headers_mut();
    let told = [header::ACCESS_CONTROL_ALLOW_HEADERS, header::ACCESS_CONTROL_ALLOW_METHODS];
    for (name, value) in told.into_iter().zip(asked) {
        headers.extend(value.map(|value| (name, value)));
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_AGE));
    response
}

/// Whether pages of this origin are served. Where none is named no page is, also none that says `null`.
fn is_allowed(origin: &HeaderValue, allowed: &[String]) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    allowed.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(origin))
}

async fn spoken(
    shared: &Arc<Shared>,
    call: Call,
    body: Incoming,
    lease: Lease,
    busy: Busy,
) -> Response<Reply> {
    let (form, operation) = (call.form, Arc::clone(&call.operation));
    let begin = Instant::now();
    let outcome = perform(shared, &busy.0, call, body, lease).await;
    operation.ended(begin.elapsed(), outcome.as_ref().err().map(|fault| fault.kind.name()));
    match outcome {
        Ok((Answer::Whole(bytes), lease) | (Answer::Held(bytes, lease), _)) => {
            whole(StatusCode::OK, Some(form.content_type()), bytes, lease, busy)
        }
        Ok((Answer::Feed(feed), _)) => {
            let mut response = Response::new(Reply::feed(feed, busy));
            let kind = HeaderValue::from_static("application/vnd.amazon.eventstream");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(fault) => refusal(&fault, Tongue::Of(form), busy).await,
    }
}

/// Refuses a head that is too large, or that says two things about its body's length.
fn refuse_head(head: &Parts) -> Option<StatusCode> {
    let line = head.uri.path_and_query().map_or(0, |p| p.as_str().len());
    if line > HEAD_BYTES_MAX as usize / 2 {
        return Some(StatusCode::URI_TOO_LONG);
    }
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if line + headers > HEAD_BYTES_MAX as usize {
        return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let lengths = head.headers.get_all(header::CONTENT_LENGTH).iter().count();
    let codings = head.headers.get_all(header::TRANSFER_ENCODING).iter().count();
    (lengths + codings > 1).then_some(StatusCode::BAD_REQUEST)
}

/// The form that a request says it has. Whoever sends nothing and says nothing is answered in CBOR, as by the service.
fn tongue_of(head: &Parts, is_bare: bool) -> Tongue {
    if head.method != Method::POST {
        return Tongue::Xml;
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/x-amz-json-1.1" | "application/json" => Tongue::Of(Form::Json),
        "application/x-amz-cbor-1.1" => Tongue::Of(Form::Cbor),
        _ if is_bare => Tongue::Of(Form::Cbor),
        _ => Tongue::Xml,
    }
}

async fn perform(
    shared: &Arc<Shared>,
    client: &Arc<Connection>,
    call: Call,
    body: Incoming,
    lease: Lease,
) -> Result<(Answer, Lease), Fault> {
    let Call { form, place, operation, signed } = call;
    let entry = TABLE.get(place).ok_or_else(Fault::internal)?;
    let Signed { region, proof } = signed?;
    let most = if entry.takes_data { BODY_BYTES_MAX } else { CONTROL_BYTES_MAX };
    let mut held = collect(shared, lease, client, body, most).await?;
    let now_ms = shared.core.now_ms();
    let cx = Context {
        shared,
        client,
        place,
        operation: &operation,
        body: &held.bytes,
        region: &region,
        form,
        now_ms,
    };
    let parse = || {
        proof.of_body(&held.bytes)?;
        if entry.per == Per::Account {
            cx.admit(Uuid::nil(), "")?;
        }
        let document = match form {
            Form::Json => json::parse(&held.bytes),
            Form::Cbor => cbor::parse(&held.bytes),
        };
        document.map_err(|malformed| Fault::new(Kind::Serialization, malformed.0))
    };
    let document = shared.core.work(Some(client.peer), held.bytes.len(), parse).await?;
    client.requests.know();
    // Data is decoded, and then put into batches.
    let made = document.bytes() + if entry.takes_data { held.bytes.len() * 2 } else { 0 };
    let all = held.lease.bytes() + made;
    hold(&mut held.lease, all, all).await?;
    let request = document.root();
    shared.core.work(Some(client.peer), held.bytes.len(), || shape::check(request, entry.fields)).await?;
    let mut room = client.answers.lease();
    let bytes = (entry.room)(request);
    hold(&mut room, bytes, bytes).await?;
    let answer = match entry.answer {
        How::AtOnce(answer) => answer(&cx, request)?,
        How::Later(answer) => answer(&cx, request).await?,
    };
    Ok((answer, room))
}

/// Makes a lease hold `want` bytes, or at least `least`; the bytes held then.
///
/// # Errors
/// `ServiceUnavailableException`, which SDKs retry, when there is not enough for too long.
pub(super) async fn hold(lease: &mut Lease, least: usize, want: usize) -> Result<usize, Fault> {
    tokio::time::timeout(MEMORY_TIME, lease.grow(least, want)).await.map_err(|_| too_much())
}

fn too_much() -> Fault {
    Fault::new(Kind::Unavailable, "Too many bytes of requests or answers at a time.")
}

impl Shared {
    /// As [`hold`], for a body of which more may come meanwhile than is counted. So many wait at a time that all of that is a
    /// part of the budget; a line that is longer ends for the client sooner than it is through.
    ///
    /// # Errors
    /// As [`hold`].
    async fn hold_ahead(&self, lease: &mut Lease, least: usize, want: usize) -> Result<usize, Fault> {
        let mut held = std::pin::pin!(hold(lease, least, want));
        let mut place = None;
        // Most do not wait.
        std::future::poll_fn(|task| {
            let outcome = held.as_mut().poll(task);
            if outcome.is_pending() && place.is_none() {
                match self.ahead.try_acquire() {
                    Ok(taken) => place = Some(taken),
                    Err(_) => return Poll::Ready(Err(too_much())),
                }
            }
            outcome
        })
        .await
    }
}

/// A body in memory, counted.
struct Held {
    bytes: Bytes,
    lease: Lease,
}

fn too_large(most: usize) -> Fault {
    Fault::new(Kind::RequestTooLarge, format!("The request is larger than {most} bytes."))
}

/// Reads a body within the limits of size, time and memory. Memory follows what has come, not what was promised; a body that
/// does not come on gives it up when others need it.
async fn collect(
    shared: &Shared,
    mut lease: Lease,
    client: &Arc<Connection>,
    mut body: Incoming,
    most: usize,
) -> Result<Held, Fault> {
    let promised =
        body.size_hint().exact().map_or(most, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if body.size_hint().lower() > most as u64 {
        return Err(too_large(most));
    }
    // Of the request without its body.
    let before = lease.bytes();
    let mut whole = Vec::new();
    let mut duty: Option<Duty> = None;
    let mut left = BODY_TIME;
    loop {
        if duty.is_none() && lease.is_shared() {
            duty = Some(client.requests.duty());
        }
        let begin = Instant::now();
        let Some(frame) = next(&mut body, duty.as_mut(), left).await? else { break };
        left = left.saturating_sub(begin.elapsed());
        let frame = frame.map_err(|_| Fault::new(Kind::Serialization, "The body ended early."))?;
        let Ok(chunk) = frame.into_data() else { continue };
        let length = whole.len() + chunk.len();
        if length > most {
            return Err(too_large(most));
        }
        // A body in one piece stays where it is.
        if whole.is_empty() && body.is_end_stream() {
            drop(duty);
            shared.hold_ahead(&mut lease, before + length, before + length).await?;
            return Ok(Held { bytes: chunk, lease });
        }
        if length > whole.capacity() {
            let wanted = (whole.capacity() * 2).min(promised).max(length);
            // Who stands in line does not owe anything.
            duty = None;
            let held = shared.hold_ahead(&mut lease, before + length, before + wanted).await?;
            whole.reserve_exact(wanted.min(held - before) - whole.len());
        }
        whole.extend_from_slice(&chunk);
        if let Some(duty) = &duty {
            duty.moved(chunk.len());
        }
    }
    Ok(Held { bytes: whole.into(), lease })
}

/// The next part of a body.
async fn next(
    body: &mut Incoming,
    duty: Option<&mut Duty>,
    left: Duration,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Fault> {
    let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx));
    let cut = async {
        match duty {
            Some(duty) => std::future::poll_fn(|cx| duty.poll_cut(cx)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        frame = frame => Ok(frame),
        () = cut => Err(Fault::new(
            Kind::RequestTimeout,
            "The body came too slowly, and others need the memory that it takes.",
        )),
        () = tokio::time::sleep(left) => {
            Err(Fault::new(Kind::RequestTimeout, "The body did not come in time."))
        }
    }
}

async fn refusal(fault: &Fault, tongue: Tongue, busy: Busy) -> Response<Reply> {
    let name = fault.kind.name();
    let status = match (tongue, fault.kind) {
        (Tongue::Xml, Kind::UnknownOperation) => StatusCode::NOT_FOUND,
        _ => StatusCode::from_u16(fault.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let mut lease = busy.0.answers.lease();
    let bytes = 512 + 2 * fault.message.len();
    if hold(&mut lease, bytes, bytes).await.is_err() {
        return status_only(status, busy);
    }
    let (kind, bytes) = match tongue {
        Tongue::Of(form) => {
            let told = |w: &mut Writer| {
                w.text("__type", name);
                // The service's own serializer writes this one itself.
                let key = if fault.kind == Kind::Serialization { "Message" } else { "message" };
                w.text(key, &fault.message);
            };
            (Some(form.content_type()), Writer::object(form, told))
        }
        Tongue::Xml if fault.message.is_empty() => (None, format!("<{name}/>\n").into_bytes()),
        Tongue::Xml => {
            let text = fault.message.replace('&', "&amp;").replace('<', "&lt;");
            (None, format!("<{name}>\n  <Message>{text}</Message>\n</{name}>\n").into_bytes())
        }
    };
    let mut response = whole(status, kind, vec![bytes], lease, busy);
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(name));
    response
}

fn whole(
    status: StatusCode,
    kind: Option<&'static str>,
    bytes: Vec<Vec<u8>>,
    lease: Lease,
    busy: Busy,
) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(bytes, lease, busy));
    *response.status_mut() = status;
    set_kind(response.headers_mut(), kind);
    response
}

fn status_only(status: StatusCode, busy: Busy) -> Response<Reply> {
    let mut response = Response::new(Reply::empty(busy));
    *response.status_mut() = status;
    set_kind(response.headers_mut(), Some("text/plain"));
    response
}

fn set_kind(headers: &mut HeaderMap, kind: Option<&'static str>) {
    if let Some(kind) = kind {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::{Config, KinesisSettings};
    use crate::listen::{Census, Doorway};

    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=k/20260101/eu-west-1/kinesis/aws4_request, SignedHeaders=host, Signature=0";

    /// Bytes of a header, and who knows whether somebody still has them.
    fn watched(text: &str) -> (HeaderValue, Weak<String>) {
        struct Text(Arc<String>);
        impl AsRef<[u8]> for Text {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }
        let text = Arc::new(text.to_owned());
        let weak = Arc::downgrade(&text);
        (HeaderValue::from_maybe_shared(Bytes::from_owner(Text(text))).unwrap(), weak)
    }

    #[tokio::test]
    async fn nothing_of_a_head_is_held_while_its_body_comes() {
        let config = Config::default();
        let settings =
            KinesisSettings { origins: vec!["*".to_owned()], ..config.kinesis_settings().unwrap() };
        let core = crate::broker::in_memory(config).unwrap();
        let stop = Doorway::new("kinesis", &Arc::<Census>::default()).stop();
        let shared = super::super::door::shared(&core, settings, stop).await.unwrap();
        let client = shared.connection(([127, 0, 0, 1], 1).into());
        for method in [Method::POST, Method::OPTIONS, Method::GET] {
            let mut head = hyper::Request::builder().method(method).uri("/").body(()).unwrap().into_parts().0;
            let mut watch = Vec::new();
            for (name, text) in [
                ("authorization", SIGNED),
                ("x-amz-target", "Kinesis_20131202.PutRecord"),
                ("x-amz-date", "20260101T000000Z"),
                ("content-type", "application/x-amz-json-1.1"),
                ("origin", "https://example.org"),
                ("access-control-request-headers", "x-amz-target"),
                ("access-control-request-method", "POST"),
                ("x-anything", "1"),
            ] {
                let (value, weak) = watched(text);
                head.headers.insert(name, value);
                watch.push((name, weak));
            }
            let asked = look(&shared, &head, false, &client);
            drop(head);
            let held: Vec<_> = watch.iter().filter(|(_, weak)| weak.upgrade().is_some()).collect();
            assert!(held.is_empty(), "{held:?}");
            assert!(asked.page.is_some());
            if let What::Call(call) = &asked.what {
                assert_eq!(call.signed.as_ref().map_err(|f| &f.message).unwrap().region, "eu-west-1");
            }
            assert_eq!(asked.lease.bytes(), REQUEST_BYTES);
        }
    }

    #[tokio::test]
    async fn who_does_not_wait_for_memory_needs_no_place_in_line() {
        let config = Config::default();
        let settings = config.kinesis_settings().unwrap();
        let most = settings.max_request_bytes.unwrap();
        let core = crate::broker::in_memory(config).unwrap();
        let stop = Doorway::new("kinesis", &Arc::<Census>::default()).stop();
        let shared = super::super::door::shared(&core, settings, stop).await.unwrap();
        let connection = |port| shared.connection(([127, 0, 0, 1], port).into());
        let places = u32::try_from(shared.ahead.available_permits()).unwrap();
        let _line = shared.ahead.try_acquire_many(places).unwrap();
        let clients: Vec<_> = (1..5).map(connection).collect();
        let leases = clients.iter().map(|client| client.requests.lease());
        let [mut all, mut turn, mut little, mut lease] = leases.collect::<Vec<_>>().try_into().ok().unwrap();
        all.settle(2 * most);
        // One is let in past the limit.
        turn.grow(1 << 20, 1 << 20).await;
        assert!(shared.hold_ahead(&mut little, 100, 100).await.is_ok(), "what is its own");
        let refused = tokio::select! {
            biased;
            outcome = shared.hold_ahead(&mut lease, 1 << 20, 1 << 20) => outcome.is_err(),
            () = std::future::ready(()) => false,
        };
        assert!(refused, "the line is full");
        assert!(!lease.is_waiting());
    }

    /// A PutRecord with so many characters of data, as it is sent.
    async fn put(door: &Doorway, length: usize) -> TcpStream {
        let body = format!(r#"{{"StreamName":"s","PartitionKey":"k","Data":"{}"}}"#, "A".repeat(length));
        let head = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {SIGNED}\r\n\
             x-amz-date: 20260101T000000Z\r\nx-amz-target: Kinesis_20131202.PutRecord\r\n\
             content-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(door.addrs()[0]).await.unwrap();
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
        stream
    }

    async fn is_stored(mut stream: TcpStream) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_large_body_is_worked_on_in_a_lane_and_a_small_one_is_not_behind_it() {
        let config = Config::default();
        let settings = config.kinesis_settings().unwrap();
        let core = crate::broker::in_memory(config).unwrap();
        core.create_topic("s".into(), 1, [].into()).await.unwrap();
        let addrs = vec!["127.0.0.1:0".parse().unwrap()];
        let door = super::super::open(&core, &Arc::<Census>::default(), settings, addrs).await.unwrap();
        let all_taken = core.lanes().take_all();
        let large = put(&door, 400_000).await;
        let waits = async {
            while core.lanes().progress().waiting == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waits).await.expect("it takes a lane");
        is_stored(put(&door, 400).await).await;
        assert_eq!(core.lanes().progress().waiting, 1, "the large one has not begun");
        drop(all_taken);
        is_stored(large).await;
        door.close().await;
    }
}
