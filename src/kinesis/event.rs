//! Framing of an event stream, `application/vnd.amazon.eventstream`.
//!
//! A message is total length, headers' length, CRC-32 of those two, headers, payload, CRC-32 of all before it.
//! Source: the Smithy page "Amazon Event Stream Specification".

use super::writer::Form;

/// Type byte of a header's value: a string.
const STRING: u8 = 7;

/// An event with a payload in `form`.
pub(super) fn event(kind: &str, form: Form, payload: &[u8]) -> Vec<u8> {
    message(
        &[(":message-type", "event"), (":event-type", kind), (":content-type", form.content_type())],
        payload,
    )
}

/// A refusal in the stream, which ends it.
pub(super) fn exception(kind: &str, form: Form, payload: &[u8]) -> Vec<u8> {
    message(
        &[(":message-type", "exception"), (":exception-type", kind), (":content-type", form.content_type())],
        payload,
    )
}

fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let headers_bytes: usize = headers.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
    let total = 12 + headers_bytes + payload.len() + 4;
    let mut out = Vec::with_capacity(total);
    let put_length = |out: &mut Vec<u8>, length: usize| {
        out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    };
    put_length(&mut out, total);
    put_length(&mut out, headers_bytes);
    let prelude = crc32fast::hash(&out);
    out.extend_from_slice(&prelude.to_be_bytes());
    for (name, value) in headers {
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(name.as_bytes());
        out.push(STRING);
        out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(payload);
    let whole = crc32fast::hash(&out);
    out.extend_from_slice(&whole.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_headers_and_payload_is_the_known_one() {
        // The smallest message of the specification's own test vectors (aws-c-event-stream, empty_message).
        assert_eq!(
            message(&[], b""),
            [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff]
        );
    }

    #[test]
    fn lengths_and_headers_are_where_they_should_be() {
        let bytes = event("initial-response", Form::Json, b"{}");
        assert_eq!(u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
        let headers = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[12 + headers..bytes.len() - 4], b"{}");
        assert_eq!(&bytes[12..26], b"\x0d:message-type");
        assert_eq!(&bytes[26..34], b"\x07\x00\x05event");
    }
}
