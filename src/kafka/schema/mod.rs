//! STUB
use super::wire::Malformed;
pub(super) struct RequestHeader<'a> { pub(super) api_key: i16, pub(super) api_version: i16, pub(super) correlation_id: i32, pub(super) client_id: Option<&'a str>, pub(super) body_at: usize }
pub(super) fn header(frame: &[u8]) -> Result<RequestHeader<'_>, Malformed> {
    let bad = Malformed { what: "header", at: 0 };
    let g16 = |at: usize| frame.get(at..at + 2).map(|b| i16::from_be_bytes([b[0], b[1]])).ok_or(bad);
    let api_key = g16(0)?; let api_version = g16(2)?;
    let c = frame.get(4..8).ok_or(bad)?; let correlation_id = i32::from_be_bytes([c[0], c[1], c[2], c[3]]);
    let len = g16(8)?; let mut at = 10; let mut client_id = None;
    if len >= 0 { client_id = std::str::from_utf8(frame.get(at..at + len as usize).ok_or(bad)?).ok(); at += len as usize; }
    if flexible_from(api_key).is_some_and(|f| api_version >= f) { at += 1; }
    Ok(RequestHeader { api_key, api_version, correlation_id, client_id, body_at: at })
}
pub(super) fn walk(_key: i16, _version: i16, _body: &[u8]) -> Result<(), Malformed> { Ok(()) }
pub(super) fn flexible_from(key: i16) -> Option<i16> { Some(match key { 0 => 9, 1 => 12, 2 => 6, 3 => 9, 18 => 3, _ => return None }) }
