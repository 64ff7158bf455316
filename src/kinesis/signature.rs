//! Signature version 4: who signed a request, and, when keys are configured, whether it was them.
//!
//! By default any well-formed signature is taken, as emulators do: the region of every ARN comes from it. Strict
//! mode recomputes it over method, path, query, signed headers and body and compares in constant time; all but the body
//! is looked at before the body is read.
//! Source: the service's page "Create a signed AWS API request"; texts as kinesalite recorded them.
//! Deliberately absent: policies. A known key may do everything.

use std::borrow::Cow;
use std::collections::HashMap;

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};

use super::error::{Fault, Kind};

/// How far a signature's time may be from ours, ms.
const SKEW_MS: i64 = 15 * 60_000;
/// Longest region that is repeated in an ARN.
const REGION_BYTES_MAX: usize = 32;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Longest request, but for its body, in the form that is signed.
const CANONICAL_BYTES_MAX: usize = 64 * 1024;
/// Where a client may say the hash of its body.
const CONTENT_HASH: &str = "x-amz-content-sha256";

/// Who is let in.
pub(super) enum Gate {
    /// Whoever signs in the right form.
    WellFormed,
    /// Whoever signs with one of these secrets, by access key id.
    Keys(HashMap<String, String>),
}

/// What the body has still to show. It borrows nothing: a head does not stay while its body comes.
pub(super) enum Proof {
    /// Nothing.
    None,
    /// That it has this hash, which is signed.
    Hash(String),
    /// That the signature is made over it.
    Signed(Box<Unsealed>),
}

/// A signature but for the hash of the body, which is the last that it is made over.
pub(super) struct Unsealed {
    /// Over the request, up to that hash.
    canonical: Sha256,
    /// What is signed, up to the hash of the request.
    to_sign: String,
    key: Vec<u8>,
    given: Vec<u8>,
}

/// The parts of a signature.
#[derive(Debug)]
pub(super) struct Signature<'a> {
    key_id: &'a str,
    /// Day, `yyyymmdd`.
    day: &'a str,
    pub(super) region: &'a str,
    service: &'a str,
    signed_headers: Cow<'a, str>,
    mac_hex: &'a str,
    /// The time it was made, `yyyymmddThhmmssZ` (or an HTTP date, which only the lenient gate takes).
    date: &'a str,
    /// Whether it came in the query, not in a header.
    in_query: bool,
}

fn refuse<T>(kind: Kind, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::new(kind, message))
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl<'a> Signature<'a> {
    /// Reads the signature of a request.
    ///
    /// # Errors
    /// `MissingAuthenticationTokenException` without one, `InvalidSignatureException` with two,
    /// `IncompleteSignatureException` when parts are missing.
    pub(super) fn read(head: &'a Parts) -> Result<Self, Fault> {
        let query = head.uri.query().unwrap_or_default();
        let in_query = parameters(query).any(|(name, _)| name == "X-Amz-Algorithm");
        let mut given = head.headers.get_all("authorization").iter();
        match (given.next(), given.next(), in_query) {
            (Some(_), _, true) => refuse(
                Kind::InvalidSignature,
                "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
            ),
            (None, _, false) => refuse(Kind::MissingAuthentication, "Missing Authentication Token"),
            (None, _, true) => Self::of_query(query),
            (Some(_), Some(_), false) => {
                refuse(Kind::IncompleteSignature, "More than one 'Authorization' header.")
            }
            (Some(value), None, false) => match value.to_str() {
                Ok(text) => Self::of_header(text, &head.headers),
                Err(_) => refuse(Kind::IncompleteSignature, "The 'Authorization' header is not text."),
            },
        }
    }

    fn of_header(text: &'a str, headers: &'a HeaderMap) -> Result<Self, Fault> {
        let rest = text.strip_prefix(ALGORITHM).unwrap_or(text);
        let part = |name: &str| {
            let pairs = rest.split([',', ' ']).filter_map(|pair| pair.trim().split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        let date = header(headers, "x-amz-date").or_else(|| header(headers, "date"));
        let mut wrong = String::new();
        for name in ["Credential", "Signature", "SignedHeaders"] {
            if part(name).is_none() {
                wrong.extend(["Authorization header requires '", name, "' parameter. "]);
            }
        }
        if date.is_none() {
            wrong += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
        }
        let (Some(credential), Some(signature), Some(signed), Some(date), true) =
            (part("Credential"), part("Signature"), part("SignedHeaders"), date, text.starts_with(ALGORITHM))
        else {
            if wrong.is_empty() {
                wrong = format!("Unsupported AWS 'algorithm': the only one is '{ALGORITHM}'. ");
            }
            return refuse(Kind::IncompleteSignature, format!("{wrong}Authorization={}", shorten(text)));
        };
        Self::new(credential, signed.into(), signature, date, false)
    }

    fn of_query(query: &'a str) -> Result<Self, Fault> {
        let part = |name: &str| {
            parameters(query).find(|(key, value)| *key == name && !value.is_empty()).map(|(_, v)| v)
        };
        let names =
            ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"];
        let [Some(_), Some(credential), Some(signature), Some(signed), Some(date)] = names.map(part) else {
            let mut wrong = String::new();
            for name in names.iter().filter(|name| part(name).is_none()) {
                wrong.extend(["AWS query-string parameters must include '", name, "'. "]);
            }
            wrong += "Re-examine the query-string parameters.";
            return refuse(Kind::IncompleteSignature, wrong);
        };
        // Slashes and semicolons come encoded; credentials are then cut at the encoded slash.
        let signed = signed.replace("%3B", ";").replace("%3b", ";");
        Self::new(credential, signed.into(), signature, date, true)
    }

    fn new(
        credential: &'a str,
        signed_headers: Cow<'a, str>,
        mac_hex: &'a str,
        date: &'a str,
        in_query: bool,
    ) -> Result<Self, Fault> {
        let separator = if credential.contains('/') { "/" } else { "%2F" };
        let mut parts = credential.rsplitn(5, separator);
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (Some("aws4_request"), Some(service), Some(region), Some(day), Some(key_id)) =
            (next(), next(), next(), next(), next())
        else {
            return refuse(
                Kind::IncompleteSignature,
                format!(
                    "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, \
                     got '{}'",
                    shorten(credential)
                ),
            );
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if region.len() > REGION_BYTES_MAX || !region.bytes().all(plain) {
            return refuse(Kind::IncompleteSignature, "Credential names no region.");
        }
        Ok(Self { key_id, day, region, service, signed_headers, mac_hex, date, in_query })
    }

    /// Refuses what can be refused before the body is read: a stranger's bodies cost no memory. What is still to be shown
    /// for the body is left to [`Proof::of_body`].
    ///
    /// Every header of the service's own (`x-amz-…`) that is there must be signed: the operation is one of them.
    ///
    /// # Errors
    /// `UnrecognizedClientException`, `InvalidSignatureException`.
    pub(super) fn admit(&self, gate: &Gate, head: &Parts, now_ms: i64) -> Result<Proof, Fault> {
        let Gate::Keys(keys) = gate else { return Ok(Proof::None) };
        let Some(secret) = keys.get(self.key_id) else {
            return refuse(
                Kind::UnrecognizedClient,
                "The security token included in the request is invalid.",
            );
        };
        let invalid = |text: String| refuse(Kind::InvalidSignature, text);
        if self.service != "kinesis" {
            return invalid("Credential should be scoped to correct service: 'kinesis'. ".into());
        }
        let Some(made_ms) = time_of(self.date) else {
            return invalid(format!(
                "Date must be in ISO-8601 'basic format'. Got '{}'.",
                shorten(self.date)
            ));
        };
        if !self.date.starts_with(self.day) {
            return invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}'.",
                shorten(self.day),
                self.date.get(..8).unwrap_or_default()
            ));
        }
        if made_ms < now_ms - SKEW_MS {
            return invalid(format!("Signature expired: {} is more than 15 min. ago.", self.date));
        }
        if made_ms > now_ms + SKEW_MS {
            return invalid(format!("Signature not yet current: {} is more than 15 min. ahead.", self.date));
        }
        if !self.signed_headers.split(';').any(names_host) {
            return invalid(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".into(),
            );
        }
        let unsigned = |name: &str| !self.signed_headers.split(';').any(|signed| signed == name);
        let own = head.headers.keys().map(hyper::header::HeaderName::as_str);
        if let Some(name) = own.filter(|name| name.starts_with("x-amz-")).find(|name| unsigned(name)) {
            return invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization."));
        }
        let given = hex_decode(self.mac_hex).filter(|given| given.len() == 32);
        let Some(unsealed) = given.and_then(|given| self.unsealed(secret, head, given)) else {
            return mismatch();
        };
        // A client that signs its body's hash shows who it is before the body comes.
        let hash = header(&head.headers, CONTENT_HASH).filter(|hash| hash.len() == 64);
        match hash {
            Some(hash) if unsealed.is_over(hash) => Ok(Proof::Hash(hash.to_owned())),
            Some(_) => mismatch(),
            None => Ok(Proof::Signed(Box::new(unsealed))),
        }
    }

    /// The signature as we compute it, but for the hash of the body.
    fn unsealed(&self, secret: &str, head: &Parts, given: Vec<u8>) -> Option<Unsealed> {
        let canonical = Sha256::new_with_prefix(self.canonical_request(head)?);
        let scope = format!("{}/{}/{}/aws4_request", self.day, self.region, self.service);
        let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n", self.date);
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in [self.day, self.region, self.service, "aws4_request"] {
            key = keyed(&key, part.as_bytes())?.finalize().into_bytes().to_vec();
        }
        Some(Unsealed { canonical, to_sign, key, given })
    }

    /// Up to the hash of the body.
    fn canonical_request(&self, head: &Parts) -> Option<String> {
        let mut query: Vec<String> = parameters(head.uri.query().unwrap_or_default())
            .filter(|(name, _)| !(self.in_query && *name == "X-Amz-Signature"))
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        query.sort_unstable();
        let mut text = format!("{}\n{}\n{}\n", head.method, head.uri.path(), query.join("&"));
        for name in self.signed_headers.split(';') {
            let mut values: Vec<String> = head
                .headers
                .get_all(name)
                .iter()
                .map(|value| {
                    Some(value.to_str().ok()?.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
                })
                .collect::<Option<_>>()?;
            // HTTP/2 has the host in a place of its own.
            if values.is_empty() && names_host(name) {
                values.push(head.uri.authority()?.to_string());
            }
            if values.is_empty() {
                return None;
            }
            text.extend([name, ":", &values.join(","), "\n"]);
            // Longer than any head: a header was named again and again.
            if text.len() > CANONICAL_BYTES_MAX {
                return None;
            }
        }
        text.extend(["\n", &self.signed_headers, "\n"]);
        Some(text)
    }
}

impl Unsealed {
    /// Whether the signature is over a body of this hash.
    fn is_over(&self, hash: &str) -> bool {
        // Compares in constant time.
        self.mac(hash).is_some_and(|mac| mac.verify_slice(&self.given).is_ok())
    }

    /// As we compute it, not yet compared.
    fn mac(&self, hash: &str) -> Option<Hmac<Sha256>> {
        let canonical = self.canonical.clone().chain_update(hash).finalize();
        keyed(&self.key, format!("{}{}", self.to_sign, hex(&canonical)).as_bytes())
    }
}

impl Proof {
    /// Lets the request in or not.
    ///
    /// # Errors
    /// `InvalidSignatureException`.
    pub(super) fn of_body(&self, body: &[u8]) -> Result<(), Fault> {
        let hash = || hex(&Sha256::digest(body));
        let shown = match self {
            Self::None => true,
            Self::Hash(signed) => hash().eq_ignore_ascii_case(signed),
            Self::Signed(unsealed) => unsealed.is_over(&hash()),
        };
        if shown { Ok(()) } else { mismatch() }
    }
}

fn mismatch<T>() -> Result<T, Fault> {
    refuse(
        Kind::InvalidSignature,
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
         Access Key and signing method. Consult the service documentation for details.",
    )
}

/// Whether a signed header is the host; SDKs that speak HTTP/2 sign its pseudo-header.
fn names_host(name: &str) -> bool {
    matches!(name, "host" | ":authority")
}

/// Names and values of a query, as they were sent.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A part of a query in the one form that is signed: every byte but letters, digits and `-_.~` as `%XX` in upper case,
/// however it was sent.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, next) = match (first, after) {
            (b'%', [high, low, next @ ..]) => {
                let pair = [*high, *low];
                let sent = std::str::from_utf8(&pair).ok().and_then(hex_decode);
                sent.and_then(|sent| sent.first().copied()).map_or((b'%', after), |byte| (byte, next))
            }
            _ => (*first, after),
        };
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(["%", &hex(&[byte]).to_ascii_uppercase()]);
        }
        rest = next;
    }
    out
}

fn keyed(key: &[u8], bytes: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(bytes);
    Some(mac)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn hex_decode(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| if let [high, low] = pair { Some((digit(*high)? << 4) | digit(*low)?) } else { None })
        .collect()
}

/// Milliseconds since the epoch of `yyyymmddThhmmssZ`.
fn time_of(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes.get(8) != Some(&b'T') || bytes.get(15) != Some(&b'Z') {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        text.get(range).filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse::<i64>().ok()
    };
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since the epoch, counting years from March so that the leap day comes last (Howard Hinnant).
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000)
}

fn shorten(text: &str) -> &str {
    text.get(..text.floor_char_boundary(256)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_440_938_160_000;
    const BODY: &[u8] = br#"{"Limit":1}"#;

    fn head(authorization: Option<&str>, query: &str) -> Parts {
        let mut request = hyper::Request::builder()
            .method("POST")
            .uri(format!("/{query}"))
            .header("host", "localhost:4567")
            .header("x-amz-target", "Kinesis_20131202.ListStreams")
            .header("x-amz-date", "20150830T123600Z");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn keys() -> Gate {
        Gate::Keys(HashMap::from([("AKID".to_owned(), "SECRET".to_owned())]))
    }

    fn signed(signature: &str) -> String {
        format!(
            "{ALGORITHM} Credential=AKID/20150830/us-east-1/kinesis/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-target, Signature={signature}"
        )
    }

    /// The signature that botocore 1.44.5 makes of this request with these keys.
    const GOOD: &str = "80cab2a947a649be37580c52878dfa8d992576a7ffdf43e313cf939de01f6bf4";

    fn outcome(authorization: &str, now_ms: i64) -> Result<(), Kind> {
        let head = head(Some(authorization), "");
        let signature = Signature::read(&head).map_err(|f| f.kind)?;
        let keys = keys();
        let proof = signature.admit(&keys, &head, now_ms).map_err(|f| f.kind)?;
        proof.of_body(BODY).map_err(|f| f.kind)
    }

    #[test]
    fn a_time_is_read_and_a_wrong_one_is_not() {
        assert_eq!(time_of("20150830T123600Z"), Some(NOW_MS));
        assert_eq!(time_of("20240229T000000Z"), Some(1_709_164_800_000));
        for text in [
            "",
            "20150830T123600",
            "20151330T123600Z",
            "2015083OT123600Z",
            "20150830 123600Z",
            "+0150830T123600Z",
        ] {
            assert_eq!(time_of(text), None, "{text}");
        }
    }

    #[test]
    fn strict_mode_takes_what_botocore_signs_and_nothing_else() {
        assert_eq!(outcome(&signed(GOOD), NOW_MS), Ok(()));
        let mut off = GOOD.to_owned().into_bytes();
        off[0] = if off[0] == b'0' { b'1' } else { b'0' };
        assert_eq!(outcome(&signed(std::str::from_utf8(&off).unwrap()), NOW_MS), Err(Kind::InvalidSignature));
        assert_eq!(outcome(&signed(""), NOW_MS), Err(Kind::InvalidSignature));
        assert_eq!(outcome(&signed(GOOD), NOW_MS + 16 * 60_000), Err(Kind::InvalidSignature));
        assert_eq!(outcome(&signed(GOOD), NOW_MS - 16 * 60_000), Err(Kind::InvalidSignature));
        assert_eq!(
            outcome(&signed(GOOD).replace("us-east-1", "eu-west-1"), NOW_MS),
            Err(Kind::InvalidSignature)
        );
        assert_eq!(outcome(&signed(GOOD).replace("host;", ""), NOW_MS), Err(Kind::InvalidSignature));
        assert_eq!(outcome(&signed(GOOD).replace("AKID", "OTHER"), NOW_MS), Err(Kind::UnrecognizedClient));
    }

    #[test]
    fn over_http2_the_authority_is_signed_instead_of_the_host() {
        // As the AWS SDK for JavaScript signs.
        let text = signed("c702a9c9d6360250f1c7f2690893f46c2605515811ef9cba19756b798bba4a4f")
            .replace("host;x-amz-date;x-amz-target", ":authority;x-amz-date");
        let mut head = head(Some(&text), "");
        head.headers.remove("host");
        head.headers.remove("x-amz-target");
        head.uri = "http://localhost:4567/".parse().unwrap();
        let signature = Signature::read(&head).unwrap();
        let keys = keys();
        let proof = signature.admit(&keys, &head, NOW_MS).unwrap();
        assert!(proof.of_body(BODY).is_ok());
    }

    #[test]
    fn a_header_of_the_services_own_that_is_not_signed_is_refused() {
        let text = signed(GOOD);
        let keys = keys();
        for name in ["x-amz-security-token", "x-amz-content-sha256", "x-amz-anything"] {
            let mut head = head(Some(&text), "");
            head.headers.insert(hyper::header::HeaderName::from_static(name), "1".parse().unwrap());
            let refused = Signature::read(&head).unwrap().admit(&keys, &head, NOW_MS).err().unwrap();
            assert_eq!(refused.kind, Kind::InvalidSignature, "{name}");
            assert!(refused.message.starts_with(&format!("'{name}' must be")), "{}", refused.message);
        }
        // What proxies add is nobody's order.
        let mut head = head(Some(&text), "");
        head.headers.insert("x-amzn-trace-id", "1".parse().unwrap());
        assert!(Signature::read(&head).unwrap().admit(&keys, &head, NOW_MS).is_ok());
    }

    #[test]
    fn a_signed_hash_is_verified_before_the_body_and_the_body_against_it() {
        let hash = hex(&Sha256::digest(BODY));
        let with = |hash: &str, mac: &str| {
            let text = signed(mac).replace("host;x-amz-date", "host;x-amz-content-sha256;x-amz-date");
            let mut head = head(Some(&text), "");
            head.headers.insert(CONTENT_HASH, hash.parse().unwrap());
            head
        };
        let unsigned = with(&hash, &"0".repeat(64));
        let unsealed = Signature::read(&unsigned).unwrap().unsealed("SECRET", &unsigned, Vec::new()).unwrap();
        let mac = unsealed.mac(&hash).unwrap();
        let mac = hex(&mac.finalize().into_bytes());
        let keys = keys();
        let good = with(&hash, &mac);
        let signature = Signature::read(&good).unwrap();
        let proof = signature.admit(&keys, &good, NOW_MS).unwrap();
        assert!(matches!(proof, Proof::Hash(_)));
        assert!(proof.of_body(BODY).is_ok());
        assert!(proof.of_body(b"{}").is_err());
        for bad in [with(&hash, &"0".repeat(64)), with(&"0".repeat(64), &mac)] {
            let refused = Signature::read(&bad).unwrap().admit(&keys, &bad, NOW_MS).err().unwrap();
            assert_eq!(refused.kind, Kind::InvalidSignature);
        }
    }

    #[test]
    fn a_query_is_signed_in_one_form_however_it_was_sent() {
        for sent in ["x/y z", "x%2fy%20z", "x%2Fy z"] {
            assert_eq!(encoded(sent), "x%2Fy%20z", "{sent}");
        }
        for (sent, signed) in [("%", "%25"), ("%4", "%254"), ("%zz", "%25zz"), ("%7E-_.", "~-_."), ("", "")] {
            assert_eq!(encoded(sent), signed, "{sent}");
        }
    }

    #[test]
    fn a_signature_has_all_its_parts() {
        let read = |authorization: Option<&str>, query: &str| {
            let head = head(authorization, query);
            Signature::read(&head).map(|s| s.region.to_owned()).map_err(|f| f.kind)
        };
        assert_eq!(read(None, ""), Err(Kind::MissingAuthentication));
        assert_eq!(read(Some(&signed("00")), ""), Ok("us-east-1".to_owned()));
        assert_eq!(read(Some(&signed("00")), "?X-Amz-Algorithm=x"), Err(Kind::InvalidSignature));
        assert_eq!(read(None, "?X-Amz-Algorithm=x"), Err(Kind::IncompleteSignature));
        for text in [
            "",
            "Basic x",
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request",
            "AWS4-HMAC-SHA256 Credential=AKID, SignedHeaders=a, Signature=b",
        ] {
            assert_eq!(read(Some(text), ""), Err(Kind::IncompleteSignature), "{text}");
        }
        let query = "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20150830%2Feu-west-1%2Fkinesis%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
        assert_eq!(read(None, query), Ok("eu-west-1".to_owned()));
    }
}
