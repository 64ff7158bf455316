//! One request and its response: head, signature, body, action, dialect.
//!
//! Order: what the head says is checked first, then the body is read within its limits, then parsed, then checked
//! against the action's fields, then answered. Every response has a request id.
//! Web pages are not served: a browser says where a page came from (Origin) and an SDK does not, and a page that reached
//! this door under a name of its own (DNS rebinding) could sign as well as anybody while any signature is let in. The
//! host name itself says nothing: in a container network clients call the broker by whatever name it was given.
//! Deliberately absent: what an action does (`action/`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::Instant;
use uuid::Uuid;

use super::action::{self, Context, How, Per, TABLE};
use super::door::Shared;
use super::error::{Fault, Kind};
use super::reply::{Answer, Busy, Reply};
use super::signature::Signature;
use super::writer::{Form, Writer};
use super::{cbor, json, shape};
use crate::broker::Operation;

/// Longest head: request line and headers.
pub(super) const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Longest body: 10 MiB of data in base64, and a little for what stands around it.
const BODY_BYTES_MAX: usize = 15 << 20;
/// Bytes of all bodies at a time.
const ALL_BODIES_BYTES_MAX: usize = 256 << 20;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
const SERVICE: &str = "Kinesis_20131202.";
const REQUEST_ID: &str = "x-amzn-requestid";

/// Answers a request; `busy` stays with the response.
pub(super) async fn answer(shared: &Arc<Shared>, request: Request<Incoming>, busy: Busy) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let id = shared.core.clock().uuid();
    let form = form_of(&head);
    let mut response =
        match (refuse_head(&head), head.method == Method::GET && head.uri.path().starts_with("/_health")) {
            (Some(status), _) => {
                // What follows on this connection cannot be told apart from what came.
                let mut response = status_only(status, busy);
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                response
            }
            (None, true) => whole(StatusCode::OK, "text/plain", b"ok\n".to_vec(), busy),
            (None, false) => match carry_out(shared, &head, body, form).await {
                Ok(Answer::Whole(bytes)) => {
                    whole(StatusCode::OK, form.unwrap_or(Form::Json).content_type(), bytes, busy)
                }
                Ok(Answer::Feed(feed)) => {
                    let mut response = Response::new(Reply::new(Answer::Feed(feed), Some(busy)));
                    let kind = HeaderValue::from_static("application/vnd.amazon.eventstream");
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                    response
                }
                Err(fault) => refusal(&fault, form.unwrap_or(Form::Json), busy),
            },
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

fn form_of(head: &Parts) -> Option<Form> {
    let text = head.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    match text.split(';').next().unwrap_or_default().trim() {
        "application/x-amz-json-1.1" | "application/json" => Some(Form::Json),
        "application/x-amz-cbor-1.1" => Some(Form::Cbor),
        _ => None,
    }
}

async fn carry_out(
    shared: &Arc<Shared>,
    head: &Parts,
    body: Incoming,
    form: Option<Form>,
) -> Result<Answer, Fault> {
    if head.method != Method::POST || head.uri.path() != "/" {
        return Err(Fault::new(
            Kind::AccessDenied,
            "Unable to determine service/operation name to be authorized",
        ));
    }
    if head.headers.contains_key(header::ORIGIN) {
        return Err(Fault::new(Kind::AccessDenied, "Requests of web pages are not served."));
    }
    let form = form
        .ok_or_else(|| Fault::new(Kind::UnknownOperation, "Content-Type is neither JSON 1.1 nor CBOR 1.1"))?;
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let name = target.strip_prefix(SERVICE).ok_or_else(|| Fault::new(Kind::UnknownOperation, ""))?;
    let place = action::find(name)?;
    let operation = shared.operations.get(place).ok_or_else(Fault::internal)?;
    let begin = Instant::now();
    let outcome = perform(shared, head, body, form, place, operation).await;
    operation.ended(begin.elapsed(), outcome.as_ref().err().map(|fault| fault.kind.name()));
    outcome
}

/// A call of an operation that there is.
async fn perform(
    shared: &Arc<Shared>,
    head: &Parts,
    body: Incoming,
    form: Form,
    place: usize,
    operation: &Arc<Operation>,
) -> Result<Answer, Fault> {
    let entry = TABLE.get(place).ok_or_else(Fault::internal)?;
    let signature = Signature::read(head)?;
    let held = collect(shared, body).await?;
    let now_ms = shared.core.now_ms();
    signature.admit(&shared.gate, head, &held.bytes, now_ms)?;
    let cx = Context { shared, place, operation, body: &held.bytes, region: signature.region, form, now_ms };
    if entry.per == Per::Account {
        cx.admit(Uuid::nil(), "")?;
    }
    let document = match form {
        Form::Json => json::parse(&held.bytes),
        Form::Cbor => cbor::parse(&held.bytes),
    };
    let document = document.map_err(|malformed| Fault::new(Kind::Serialization, malformed.0))?;
    let request = document.root();
    shape::check(request, entry.fields)?;
    match entry.answer {
        How::AtOnce(answer) => answer(&cx, request),
        How::Later(answer) => answer(&cx, request).await,
    }
}

/// A body in memory, counted.
struct Held<'a> {
    shared: &'a Shared,
    counted: usize,
    bytes: Bytes,
}

impl Held<'_> {
    fn count(&mut self, bytes: usize) -> Result<(), Fault> {
        self.counted += bytes;
        let all = self.shared.body_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > ALL_BODIES_BYTES_MAX {
            return Err(Fault::new(Kind::Unavailable, "Too many bytes of requests at a time."));
        }
        if self.counted > BODY_BYTES_MAX {
            return Err(too_large());
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared.body_bytes.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

fn too_large() -> Fault {
    Fault::new(Kind::RequestTooLarge, format!("The request is larger than {BODY_BYTES_MAX} bytes."))
}

/// Reads a body within the limits of size, time and memory. Memory follows what has come, not what was promised.
async fn collect(shared: &Shared, mut body: Incoming) -> Result<Held<'_>, Fault> {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut held = Held { shared, counted: 0, bytes: Bytes::new() };
    let read = async {
        let mut whole = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
        {
            let frame = frame.map_err(|_| Fault::new(Kind::Serialization, "The body ended early."))?;
            let Ok(chunk) = frame.into_data() else { continue };
            held.count(chunk.len())?;
            // A body in one piece stays where it is.
            if whole.is_empty() && body.is_end_stream() {
                held.bytes = chunk;
                return Ok(());
            }
            whole.extend_from_slice(&chunk);
        }
        held.bytes = whole.freeze();
        Ok(())
    };
    match tokio::time::timeout(BODY_TIME, read).await {
        Ok(outcome) => outcome.map(|()| held),
        Err(_) => Err(Fault::new(Kind::RequestTimeout, "The body did not come in time.")),
    }
}

fn refusal(fault: &Fault, form: Form, busy: Busy) -> Response<Reply> {
    let status = StatusCode::from_u16(fault.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let bytes = Writer::object(form, |w| {
        w.text("__type", fault.kind.name());
        w.text("message", &fault.message);
    });
    let mut response = whole(status, form.content_type(), bytes, busy);
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(fault.kind.name()));
    response
}

fn whole(status: StatusCode, kind: &'static str, bytes: Vec<u8>, busy: Busy) -> Response<Reply> {
    let mut response = Response::new(Reply::new(Answer::Whole(bytes), Some(busy)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn status_only(status: StatusCode, busy: Busy) -> Response<Reply> {
    whole(status, "text/plain", Vec::new(), busy)
}
