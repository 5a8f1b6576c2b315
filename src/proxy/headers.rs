//! A request's headers: what of the caller's never reaches the upstream, and what the gateway adds.
//!
//! All that the caller's headers can have removed is removed before anything of ours is added, so that nothing the caller
//! sends, `Connection` least of all, can remove or double what the gateway sets.

use std::convert::Infallible;
use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use smallvec::SmallVec;

use super::error::{Kind, Problem};
use super::names::{HOP_BY_HOP, Rules, is_framing, is_removed};
use crate::telemetry::{RequestId, TraceParent};
use crate::upstream::{self, RequestHead};
use crate::wiped::Buffer;

const X_CARTA_USER: HeaderName = HeaderName::from_static("x-carta-user");
const X_CARTA_EMAIL: HeaderName = HeaderName::from_static("x-carta-email");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: &[u8; 18] = b"x-forwarded-host: ";
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The most headers that `Connection` may name: each is looked for among all that are sent.
const MOST_NAMED: usize = 64;

/// What a value of the caller's identity may not hold as it is: see `add_identity`.
const NOT_IN_IDENTITY: AsciiSet = CONTROLS.add(b' ').add(b'%').add(b',').add(b'"').add(b';');

/// What a request's headers said to the gateway.
#[derive(Default)]
pub struct Taken<'h> {
    /// The names that `Connection` listed; they go from the trailers too.
    pub named: Named,
    /// The protocols that the caller wants to change to, without those that would only hide more requests.
    pub upgrade: Option<HeaderValue>,
    /// Whether the caller waits for `100 Continue`.
    pub expects_continue: bool,
    /// The caller's cookies: which of them travel on is the injection's to say.
    pub cookies: Lines<'h>,
    /// Whether the caller takes trailers.
    trailers: bool,
    forwarded: Forwarded<'h>,
}

/// The lines of one name: mostly one, if any.
pub type Lines<'h> = SmallVec<[&'h HeaderValue; 1]>;

/// Header names that `Connection` listed: seldom any.
pub type Named = SmallVec<[HeaderName; 2]>;

/// What the request said about where it came from; how much of it is believed shows when it is passed on.
#[derive(Debug, Default)]
struct Forwarded<'h> {
    host: Option<&'h HeaderValue>,
    chain: Lines<'h>,
    protos: Lines<'h>,
    hosts: Lines<'h>,
    traces: Lines<'h>,
    trace_states: Lines<'h>,
}

/// What the gateway adds to every request.
#[derive(Debug)]
pub struct Added<'a> {
    /// The login name, where the call needs one.
    pub user: Option<&'a str>,
    /// The e-mail address, where one is known.
    pub email: Option<&'a str>,
    /// The request's id.
    pub request_id: &'a RequestId,
    /// The peer.
    pub peer: IpAddr,
    /// Whether the peer came by TLS.
    pub tls: bool,
    /// Whether the peer is a trusted proxy, whose word about where the request came from is passed on.
    pub trusted_peer: bool,
}

/// Goes over a request's headers once: what travels on is written into `out`, what speaks to the gateway is returned.
///
/// # Errors
/// 417 for an expectation other than `100-continue`; 400 where `Connection` lists more than anybody needs.
pub fn pass_request<'h>(
    headers: &'h HeaderMap,
    rules: &Rules<'_>,
    out: &mut RequestHead,
) -> Result<Taken<'h>, Problem> {
    let mut taken = Taken::default();
    let (mut connection, mut protocols, mut te) = (Lines::new(), Lines::new(), Lines::new());
    let mut coded = false;
    for (name, value) in headers {
        let is_removed = is_removed(name.as_str(), rules);
        match name.as_str() {
            "connection" => connection.push(value),
            "upgrade" => protocols.push(value),
            "te" => te.push(value),
            "transfer-encoding" => coded = true,
            "expect" => taken.expects_continue = true,
            "host" => taken.forwarded.host = taken.forwarded.host.or(Some(value)),
            "x-forwarded-for" => taken.forwarded.chain.push(value),
            "x-forwarded-proto" => taken.forwarded.protos.push(value),
            "x-forwarded-host" => taken.forwarded.hosts.push(value),
            "traceparent" => taken.forwarded.traces.push(value),
            "tracestate" => taken.forwarded.trace_states.push(value),
            _ if is_removed => {}
            "cookie" => taken.cookies.push(value),
            "content-length" => out.note_length(value),
            _ => out.lines.add(name, value),
        }
    }
    if taken.expects_continue {
        check_expectation(headers)?;
    }
    taken.trailers = te.iter().any(|line| lists(line, "trailers"));
    if read_connection(connection.iter().copied(), &mut taken.named) {
        taken.upgrade = wanted(&protocols);
    }
    if coded {
        // The body is read by its chunks, and framed anew (RFC 9112 §6.3).
        out.forget_length();
    }
    if taken.named.len() > MOST_NAMED {
        let detail =
            format!("`Connection` lists more than {MOST_NAMED} headers\nname what is for this connection only");
        return Err(Problem::new(&Kind::MALFORMED_REQUEST, detail));
    }
    if !taken.named.is_empty() {
        taken.leave_out_named(out);
    }
    Ok(taken)
}

/// Whether what the caller expects can be met (RFC 9110 §10.1.1).
///
/// # Errors
/// 417 for an expectation other than `100-continue`.
pub fn check_expectation(headers: &HeaderMap) -> Result<(), Problem> {
    let mut lines = headers.get_all(EXPECT).into_iter();
    let is_known = lines.next().is_none_or(|line| line.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if is_known && lines.next().is_none() {
        return Ok(());
    }
    Err(Problem::new(&Kind::EXPECTATION_FAILED, "no expectation but `100-continue` can be met"))
}

/// Without the cookies.
impl std::fmt::Debug for Taken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taken").field("named", &self.named).field("upgrade", &self.upgrade).finish_non_exhaustive()
    }
}

impl Taken<'_> {
    /// `Connection` may name what was written already, or taken.
    fn leave_out_named(&mut self, out: &mut RequestHead) {
        out.lines.remove(&self.named);
        if self.named.contains(&CONTENT_LENGTH) {
            out.forget_length();
        }
        if self.named.contains(&COOKIE) {
            self.cookies.clear();
        }
        self.expects_continue &= !self.named.contains(&EXPECT);
    }
}

/// Writes what the gateway says to the upstream, but for injections and `Host`, which is the endpoint's. To be called
/// after [`pass_request`]. `uri` is the request's own, for its authority. Returns the trace that the call belongs to.
pub fn add_to_request(taken: &Taken<'_>, uri: &Uri, added: &Added<'_>, out: &mut RequestHead) -> TraceParent {
    let (forwarded, lines) = (&taken.forwarded, &mut out.lines);
    if let Some(user) = added.user {
        add_identity(&X_CARTA_USER, user, lines);
    }
    if let Some(email) = added.email {
        add_identity(&X_CARTA_EMAIL, email, lines);
    }
    lines.say(b"x-request-id: ", added.request_id.as_bytes());
    let inbound = one(&forwarded.traces).map(HeaderValue::as_bytes);
    let trace = TraceParent::follow(inbound);
    lines.say(b"traceparent: ", trace.text());
    if inbound.is_some_and(|inbound| inbound.windows(32).any(|digits| digits == trace.trace_id().as_bytes())) {
        forwarded.trace_states.iter().for_each(|state| lines.add(&TRACESTATE, state));
    }
    let chain = forwarded.chain.iter().filter(|_| added.trusted_peer);
    // Infallible: nothing that is written here can break a line.
    let _written = lines.fill(&X_FORWARDED_FOR, false, |out| {
        // Over HTTP/2 blanks may stand at the ends of a value.
        chain.map(|line| line.as_bytes().trim_ascii()).filter(|line| !line.is_empty()).for_each(|line| {
            out.push(line);
            out.push(b", ");
        });
        push_address(added.peer, out);
        Ok::<_, Infallible>(())
    });
    let own_proto: &[u8] = if added.tls { b"https" } else { b"http" };
    let proto = one(&forwarded.protos).filter(|_| added.trusted_peer).map(HeaderValue::as_bytes);
    let proto = proto.filter(|proto| matches!(*proto, b"http" | b"https")).unwrap_or(own_proto);
    lines.say(b"x-forwarded-proto: ", proto);
    let host = one(&forwarded.hosts).filter(|_| added.trusted_peer);
    if let Some(host) = host.filter(|host| !host.is_empty() && !host.as_bytes().contains(&b',')) {
        lines.say(X_FORWARDED_HOST, host.as_bytes());
    } else if let Some(authority) = uri.authority() {
        lines.say(X_FORWARDED_HOST, authority.as_str().as_bytes());
    } else if let Some(host) = forwarded.host {
        lines.say(X_FORWARDED_HOST, host.as_bytes());
    }
    if taken.trailers {
        lines.add_text(&TE, b"trailers");
    }
    if let Some(protocols) = &taken.upgrade {
        lines.add_text(&CONNECTION, b"upgrade");
        lines.add(&UPGRADE, protocols);
    }
    if taken.expects_continue {
        lines.add_text(&EXPECT, b"100-continue");
    }
    (out.upgrade, out.held) = (taken.upgrade.is_some(), taken.expects_continue);
    trace
}

/// Removes from trailers what would not have been let through as a header: on the way to the upstream.
pub fn strip_request_trailers(trailers: &mut HeaderMap, rules: &Rules<'_>, named: &Named) {
    remove_where(trailers, |name| {
        is_removed(name, rules)
            || is_framing(name)
            || name == "cookie"
            || named.iter().any(|named| named.as_str() == name)
    });
}

/// Adds a name or an address. Visible ASCII stays; everything else, and `%` `,` `;` `"`, is percent-encoded UTF-8, so that
/// a reader gets one unambiguous token whatever the name holds, and never a list, a parameter or a value whose blanks were
/// trimmed away.
fn add_identity(name: &HeaderName, text: &str, lines: &mut upstream::Lines) {
    // Each byte is looked at whatever those before are, several at a time.
    if text.bytes().fold(true, |all, byte| all & stands_for_itself(byte)) {
        lines.add_text(name, text.as_bytes());
        return;
    }
    let _written = lines.fill(name, false, |out| {
        utf8_percent_encode(text, &NOT_IN_IDENTITY).for_each(|piece| out.push(piece.as_bytes()));
        Ok::<_, Infallible>(())
    });
}

/// Whether this byte of an identity is written as it is: what `NOT_IN_IDENTITY` leaves of ASCII.
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_graphic() & (byte != b'%') & (byte != b',') & (byte != b'"') & (byte != b';')
}

/// The address as it is written, without the detours of formatting where it is a short one.
fn push_address(address: IpAddr, out: &mut Buffer) {
    let IpAddr::V4(address) = address else { return out.push(address.to_string().as_bytes()) };
    for (place, number) in address.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b".");
        }
        let digits = [number / 100, number / 10 % 10, number % 10].map(|digit| b'0' + digit);
        let leading = usize::from(number < 100) + usize::from(number < 10);
        out.push(digits.get(leading..).unwrap_or_default());
    }
}

pub(super) fn remove_where(headers: &mut HeaderMap, is_gone: impl Fn(&str) -> bool) {
    let gone: SmallVec<[HeaderName; 8]> = headers.keys().filter(|name| is_gone(name.as_str())).cloned().collect();
    for name in &gone {
        headers.remove(name);
    }
}

/// Reads what the lines of `Connection` list into `named`; whether `upgrade` is among it.
pub(super) fn read_connection<'h>(lines: impl Iterator<Item = &'h HeaderValue>, named: &mut Named) -> bool {
    let mut upgrade = false;
    for option in lines.flat_map(members) {
        if option.eq_ignore_ascii_case(b"upgrade") {
            upgrade = true;
        } else if let Ok(name) = HeaderName::from_bytes(option)
            && !HOP_BY_HOP.contains(&name.as_str())
            && name != "close"
        {
            named.push(name);
        }
    }
    upgrade
}

/// The members of a line that is a list of tokens.
fn members(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

fn lists(line: &HeaderValue, wanted: &str) -> bool {
    members(line).any(|member| {
        let token = member.split(|byte| *byte == b';').next().unwrap_or_default();
        token.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
    })
}

/// The one line that there is.
fn one<'h>(lines: &Lines<'h>) -> Option<&'h HeaderValue> {
    if let [only] = lines.as_slice() { Some(only) } else { None }
}

/// The protocols of `Upgrade` that may be asked for. HTTP itself may not: requests inside such a connection would be
/// seen by nobody. TLS may not either.
fn wanted(lines: &Lines<'_>) -> Option<HeaderValue> {
    let mut kept: Vec<u8> = Vec::new();
    for protocol in lines.iter().flat_map(|line| members(line)) {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        if [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|hidden| name.eq_ignore_ascii_case(hidden)) {
            continue;
        }
        if !kept.is_empty() {
            kept.extend_from_slice(b", ");
        }
        kept.extend_from_slice(protocol);
    }
    if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept).ok() }
}

#[cfg(test)]
mod tests;
