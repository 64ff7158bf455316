//! One request and its response: head, signature, body, action, dialect.
//!
//! Order: what the head says is checked first, then the body is read within its limits, then parsed, then checked
//! against the action's fields, then answered. Every response has a request id. Memory is asked for before it is used: for a
//! body as it comes, for what is made of it, for an answer before it is made (`listen`'s budgets).
//! Web pages are served only where `kinesis.allowed.origins` names them: a browser says where a page came from (Origin) and
//! an SDK does not, and a page that reached this door under a name of its own (DNS rebinding) could sign as well as anybody
//! while any signature is let in. The host name itself says nothing: in a container network clients call the broker by
//! whatever name it was given.
//! Deliberately absent: what an action does (`action/`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::Instant;
use uuid::Uuid;

use super::action::{self, Context, How, Per, TABLE};
use super::door::Shared;
use super::error::{Fault, Kind};
use super::reply::{Answer, Busy, Connection, Reply};
use super::signature::Signature;
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

/// Answers a request; `busy` stays with the response.
pub(super) async fn answer(shared: &Arc<Shared>, request: Request<Incoming>, busy: Busy) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let id = shared.core.clock().uuid();
    let mut response = if let Some(status) = refuse_head(&head) {
        // What follows on this connection cannot be told apart from what came.
        let mut response = status_only(status, busy);
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    } else if head.method == Method::GET && head.uri.path().starts_with("/_health") {
        let lease = busy.0.answers.lease();
        whole(StatusCode::OK, Some("text/plain"), vec![b"ok\n".to_vec()], lease, busy)
    } else {
        of_origin(shared, &head, body, busy).await
    };
    let headers = response.headers_mut();
    let id = id.to_string();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Ok(value) = HeaderValue::from_str(&base64_simd::STANDARD.encode_to_string(id)) {
        headers.insert("x-amz-id-2", value);
    }
    response
}

/// Answers a request of a program, or of a page that may ask.
async fn of_origin(shared: &Arc<Shared>, head: &Parts, body: Incoming, busy: Busy) -> Response<Reply> {
    let Some(origin) = head.headers.get(header::ORIGIN) else {
        return spoken(shared, head, body, busy).await;
    };
    if !is_allowed(origin, &shared.settings.origins) {
        let fault = Fault::new(
            Kind::AccessDenied,
            "Pages of this origin are not served; kinesis.allowed.origins names those that are.",
        );
        return refusal(&fault, tongue_of(head, &body), busy).await;
    }
    let mut response = if head.method == Method::OPTIONS {
        let mut response = status_only(StatusCode::OK, busy);
        let headers = response.headers_mut();
        for (asked, told) in [
            (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
            (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
        ] {
            if let Some(value) = head.headers.get(asked) {
                headers.insert(told, value.clone());
            }
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_AGE));
        response
    } else {
        let mut response = spoken(shared, head, body, busy).await;
        let exposed = HeaderValue::from_static(EXPOSED);
        response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    response
}

/// Whether pages of this origin are served. Where none is named no page is, also none that says `null`.
fn is_allowed(origin: &HeaderValue, allowed: &[String]) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    allowed.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(origin))
}

async fn spoken(shared: &Arc<Shared>, head: &Parts, body: Incoming, busy: Busy) -> Response<Reply> {
    let tongue = tongue_of(head, &body);
    let call = Call { shared, head, client: &busy.0 };
    match carry_out(&call, body, tongue).await {
        Ok((Answer::Whole(bytes), lease, form) | (Answer::Held(bytes, lease), _, form)) => {
            whole(StatusCode::OK, Some(form.content_type()), bytes, lease, busy)
        }
        Ok((Answer::Feed(feed), ..)) => {
            let mut response = Response::new(Reply::feed(feed, busy));
            let kind = HeaderValue::from_static("application/vnd.amazon.eventstream");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(fault) => refusal(&fault, tongue, busy).await,
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
fn tongue_of(head: &Parts, body: &Incoming) -> Tongue {
    if head.method != Method::POST {
        return Tongue::Xml;
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/x-amz-json-1.1" | "application/json" => Tongue::Of(Form::Json),
        "application/x-amz-cbor-1.1" => Tongue::Of(Form::Cbor),
        _ if body.is_end_stream() => Tongue::Of(Form::Cbor),
        _ => Tongue::Xml,
    }
}

/// What a request comes with.
struct Call<'a> {
    shared: &'a Arc<Shared>,
    head: &'a Parts,
    client: &'a Arc<Connection>,
}

async fn carry_out(call: &Call<'_>, body: Incoming, tongue: Tongue) -> Result<(Answer, Lease, Form), Fault> {
    let Call { shared, head, .. } = call;
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
    let operation = shared.operations.get(place).ok_or_else(Fault::internal)?;
    let begin = Instant::now();
    let outcome = perform(call, body, form, place, operation).await;
    operation.ended(begin.elapsed(), outcome.as_ref().err().map(|fault| fault.kind.name()));
    outcome.map(|(answer, lease)| (answer, lease, form))
}

/// A call of an operation that there is.
async fn perform(
    call: &Call<'_>,
    body: Incoming,
    form: Form,
    place: usize,
    operation: &Arc<Operation>,
) -> Result<(Answer, Lease), Fault> {
    let Call { shared, head, client } = call;
    let entry = TABLE.get(place).ok_or_else(Fault::internal)?;
    let signature = Signature::read(head)?;
    let proof = signature.admit(&shared.gate, head, shared.core.now_ms())?;
    let most = if entry.takes_data { BODY_BYTES_MAX } else { CONTROL_BYTES_MAX };
    let mut held = collect(client, body, most).await?;
    let now_ms = shared.core.now_ms();
    let cx = Context {
        shared,
        client,
        place,
        operation,
        body: &held.bytes,
        region: signature.region,
        form,
        now_ms,
    };
    let parse = || {
        proof.of_body(&signature, head, &held.bytes)?;
        if entry.per == Per::Account {
            cx.admit(Uuid::nil(), "")?;
        }
        let document = match form {
            Form::Json => json::parse(&held.bytes),
            Form::Cbor => cbor::parse(&held.bytes),
        };
        document.map_err(|malformed| Fault::new(Kind::Serialization, malformed.0))
    };
    let document = shared.core.work(held.bytes.len(), parse).await?;
    client.requests.know();
    // Data is decoded, and then put into batches.
    let made = document.bytes() + if entry.takes_data { held.bytes.len() * 2 } else { 0 };
    let all = held.lease.bytes() + made;
    hold(&mut held.lease, all, all).await?;
    let request = document.root();
    shared.core.work(held.bytes.len(), || shape::check(request, entry.fields)).await?;
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
    let busy = |_| Fault::new(Kind::Unavailable, "Too many bytes of requests or answers at a time.");
    tokio::time::timeout(MEMORY_TIME, lease.grow(least, want)).await.map_err(busy)
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
async fn collect(client: &Arc<Connection>, mut body: Incoming, most: usize) -> Result<Held, Fault> {
    let promised =
        body.size_hint().exact().map_or(most, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if body.size_hint().lower() > most as u64 {
        return Err(too_large(most));
    }
    let mut lease = client.requests.lease();
    let mut whole = Vec::new();
    let mut duty: Option<Duty> = None;
    let mut left = BODY_TIME;
    loop {
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
            hold(&mut lease, length, length).await?;
            return Ok(Held { bytes: chunk, lease });
        }
        if length > whole.capacity() {
            let wanted = (whole.capacity() * 2).min(promised).max(length);
            // Who stands in line does not owe anything.
            duty = None;
            let held = hold(&mut lease, length, wanted).await?;
            whole.reserve_exact(wanted.min(held) - whole.len());
        }
        whole.extend_from_slice(&chunk);
        match &duty {
            Some(duty) => duty.moved(chunk.len()),
            // To go on.
            None => duty = lease.is_shared().then(|| client.requests.duty()),
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
