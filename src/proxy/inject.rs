//! What a service adds to upstream requests: the caller's own secrets, where the caller consented, and nothing of the
//! caller's that could stand in their place.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::alias::{canonical_header, canonical_parameter, without_parameters};
use super::consent::{self, FirstConsent, FirstUse, SecretUse, Unnoted, needs_consent};
use super::error::{Kind, Problem};
use super::template::{Fault, Place, Values, fill};
use crate::config::{Basic, HeaderUse, Service, Template, header_use};
use crate::policy::ResourceId;
use crate::shell::word;
use crate::upstream::Lines;
use crate::wiped::Buffer;

/// Cookies whose canonical name begins so are the gateway's own, such as the session of its UI: never forwarded.
pub const OWN_COOKIES: &[u8] = b"__host_carta";

/// A service's injection, compiled.
#[derive(Debug, Default)]
pub struct Program {
    headers: Vec<(HeaderName, Template)>,
    /// By the name as it stands in the query.
    query: Vec<(Box<str>, Template)>,
    cookies: Vec<(Box<str>, Template)>,
    basic: Option<Basic>,
    set_headers: Vec<Box<str>>,
    set_query: Vec<Box<[u8]>>,
    set_cookies: Vec<Box<[u8]>>,
    uses: Vec<SecretUse>,
}

/// What of a service the problems of an injection speak of.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// `<namespace>/<service>`.
    pub service: &'a str,
    /// Where the API is, for lines to paste; without a trailing slash.
    pub api: &'a str,
}

/// What of the caller's an injection may have to give way to: the lines of `Cookie`, and the query.
pub type Callers<'a> = (&'a [&'a HeaderValue], Option<&'a str>);

/// Buffers that values pass through; wiped after each use, kept for the next.
#[derive(Debug, Default)]
pub struct Buffers {
    value: Buffer,
    scratch: Zeroizing<Vec<u8>>,
}

impl Program {
    /// Compiles the injection of the service with this id.
    ///
    /// # Errors
    /// With the header that no injection may set: the service must not be called then.
    pub fn compile(id: ResourceId, service: &Service) -> Result<Self, String> {
        let inject = &service.inject;
        if let Some((name, _)) = inject.headers.iter().find(|(name, _)| header_use(name.as_str()) != HeaderUse::Free) {
            return Err(format!("an injection may not set the header `{name}`"));
        }
        let mut set_headers: Vec<_> = inject.headers.iter().map(|(name, _)| canonical_header(name.as_str())).collect();
        if inject.basic.is_some() {
            set_headers.push(AUTHORIZATION.as_str().into());
        }
        let canonical = |name: &String| canonical_parameter(name.as_bytes()).into_boxed_slice();
        Ok(Self {
            headers: inject.headers.clone(),
            query: inject.query.iter().map(|(name, value)| (encoded(name), value.clone())).collect(),
            cookies: inject.cookies.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect(),
            basic: inject.basic.clone(),
            set_headers,
            // The canonical form of the name as an upstream decodes it: the name in the table is decoded already.
            set_query: inject
                .query
                .iter()
                .map(|(name, _)| canonical_parameter(encoded(name).as_bytes()).into())
                .collect(),
            set_cookies: inject.cookies.iter().map(|(name, _)| canonical(name)).collect(),
            uses: consent::uses(id, service),
        })
    }

    /// The canonical names of the headers that it sets.
    #[must_use]
    pub fn set_headers(&self) -> &[Box<str>] {
        &self.set_headers
    }

    /// The secrets that it asks for, each once.
    #[must_use]
    pub fn uses(&self) -> &[SecretUse] {
        &self.uses
    }

    /// Whether the caller has not consented to something that the service gets of theirs.
    #[must_use]
    pub fn lacks_consent(&self, values: &Values<'_>) -> bool {
        self.uses.iter().any(|of| of.lacks_consent(values))
    }

    /// Sees to it that the caller consented to all that the service gets of theirs. The very first use of a `trusted`
    /// service, one of the file, is the consent; once it sends the secret elsewhere or otherwise, or the caller has
    /// withdrawn, it is asked for, and so it is where others could read the secret on its way.
    ///
    /// False where a first use had to be noted: what the caller stored and said may have changed while that was waited
    /// for, and the question is to be asked again of the values as they are then.
    ///
    /// # Errors
    /// 400 `secret-consent`; 400 `conflict` where the caller has no room for one more consent; 503 where a first use could
    /// not be noted.
    pub async fn consent(
        &self,
        values: &Values<'_>,
        (service, trusted): (ResourceId, bool),
        named: &Named<'_>,
        first_use: &dyn FirstUse,
    ) -> Result<bool, Problem> {
        let user = values.identity.account.id;
        let Some(of) = self.uses.iter().find(|of| of.lacks_consent(values)) else { return Ok(true) };
        if !trusted || of.exposed || values.own.decided_before(&of.secret, service) {
            return Err(needs_consent(of, named));
        }
        first_use.consent(FirstConsent { user, service, of: of.clone() }).await.map_err(|unnoted| match unnoted {
            Unnoted::Full(why) => Problem::new(&Kind::CONFLICT, format!("your consent could not be noted: {why}")),
            Unnoted::Unavailable(reason) => {
                let secret = &*of.secret;
                tracing::warn!(%user, service = named.service, secret, reason, "a first use could not be noted");
                Problem::new(&Kind::STORE_UNAVAILABLE, "your consent could not be noted now\ntry again").retry_after(1)
            }
        })?;
        Ok(false)
    }

    /// Writes headers and cookies, and returns the query to send where it is another than the caller's. `caller` is the
    /// caller's cookies and query; headers of the same names must be gone already. Every consent must have been seen.
    ///
    /// # Errors
    /// 400 for a value that is missing or cannot be sent, with the line to paste; 500 for a secret that does not open.
    pub fn apply(
        &self,
        (cookies, query): Callers<'_>,
        values: &Values<'_>,
        named: &Named<'_>,
        buffers: &mut Buffers,
        lines: &mut Lines,
    ) -> Result<Option<Buffer>, Problem> {
        let applied = self.set((cookies, query), values, buffers, lines);
        buffers.value.clear();
        applied.map_err(|fault| problem(fault, named))
    }

    /// For a call that nothing is injected into: the caller's parameters and cookies of the names that the injection sets
    /// go all the same, and so do the gateway's own cookies. Returns the query to send where it is another.
    #[must_use]
    pub fn only_strip(&self, (cookies, query): Callers<'_>, lines: &mut Lines) -> Option<Buffer> {
        if let Some(kept) = kept_cookies(cookies, &self.set_cookies) {
            lines.add_text(&COOKIE, &kept);
        }
        self.without_ours(query?).map(|kept| {
            let mut whole = Buffer::default();
            whole.push(&kept);
            whole
        })
    }

    fn set(
        &self,
        (cookies, query): Callers<'_>,
        values: &Values<'_>,
        buffers: &mut Buffers,
        lines: &mut Lines,
    ) -> Result<Option<Buffer>, Fault> {
        let Buffers { value, scratch } = buffers;
        for (name, template) in &self.headers {
            if !lines.fill(name, true, |out| fill(template, values, Place::Header, out, scratch))? {
                return Err(Fault::Unusable(format!("the value of `{name}`")));
            }
        }
        if let Some(basic) = &self.basic {
            value.clear();
            fill(&basic.username, values, Place::BasicUser, value, scratch)?;
            value.push(b":");
            fill(&basic.password, values, Place::BasicPassword, value, scratch)?;
            let credential = Zeroizing::new(BASE64_STANDARD.encode(value.bytes()));
            let whole = lines.fill(&AUTHORIZATION, true, |out| {
                out.push(b"Basic ");
                out.push(credential.as_bytes());
                Ok(())
            })?;
            if !whole {
                return Err(Fault::Unusable("the credential".to_owned()));
            }
        }
        self.set_cookies(cookies, values, scratch, lines)?;
        self.set_query(query, values, scratch)
    }

    /// Ours come first: no quote that the caller left open can swallow them.
    fn set_cookies(
        &self,
        callers: &[&HeaderValue],
        values: &Values<'_>,
        scratch: &mut Zeroizing<Vec<u8>>,
        lines: &mut Lines,
    ) -> Result<(), Fault> {
        let kept = kept_cookies(callers, &self.set_cookies);
        if self.cookies.is_empty() {
            if let Some(kept) = kept {
                lines.add_text(&COOKIE, &kept);
            }
            return Ok(());
        }
        let whole = lines.fill(&COOKIE, true, |out| {
            for (place, (name, template)) in self.cookies.iter().enumerate() {
                out.push(if place > 0 { b"; " } else { b"" });
                out.push(name.as_bytes());
                out.push(b"=");
                fill(template, values, Place::Cookie, out, scratch)?;
            }
            if let Some(kept) = kept {
                out.push(b"; ");
                out.push(&kept);
            }
            Ok(())
        })?;
        if whole { Ok(()) } else { Err(Fault::Unusable("the cookies".to_owned())) }
    }

    fn set_query(
        &self,
        query: Option<&str>,
        values: &Values<'_>,
        scratch: &mut Zeroizing<Vec<u8>>,
    ) -> Result<Option<Buffer>, Fault> {
        if self.query.is_empty() {
            return Ok(None);
        }
        let caller = query.unwrap_or_default();
        let kept = self.without_ours(caller);
        let mut whole = Buffer::default();
        whole.push(kept.as_deref().unwrap_or(caller.as_bytes()));
        for (name, template) in &self.query {
            if !whole.bytes().is_empty() {
                whole.push(b"&");
            }
            whole.push(name.as_bytes());
            whole.push(b"=");
            fill(template, values, Place::Query, &mut whole, scratch)?;
        }
        Ok(Some(whole))
    }

    fn without_ours(&self, query: &str) -> Option<Vec<u8>> {
        let is_ours = |name: &[u8]| self.set_query.iter().any(|ours| **ours == *name);
        if self.set_query.is_empty() { None } else { without_parameters(query.as_bytes(), b"&;", is_ours) }
    }
}

/// The caller's cookies without the gateway's own and those of these canonical names; none where nothing is left.
/// Several lines become one, as HTTP/2 callers may split them (RFC 9113 §8.2.3).
#[must_use]
pub fn kept_cookies<'h>(lines: &[&'h HeaderValue], set: &[Box<[u8]>]) -> Option<Cow<'h, [u8]>> {
    let caller = match lines {
        [] => return None,
        [only] => Cow::Borrowed(only.as_bytes()),
        several => Cow::Owned(several.iter().map(|line| line.as_bytes()).collect::<Vec<_>>().join(&b"; "[..])),
    };
    let is_gone = |name: &[u8]| name.starts_with(OWN_COOKIES) || set.iter().any(|ours| **ours == *name);
    let kept = match without_parameters(&caller, b";,", is_gone) {
        Some(kept) => Cow::Owned(kept.trim_ascii_start().to_vec()),
        None => caller,
    };
    Some(kept).filter(|kept| !kept.is_empty())
}

fn problem(fault: Fault, named: &Named<'_>) -> Problem {
    let Named { service, api } = named;
    match fault {
        Fault::SecretMissing(name) => missing(&name, "and you have stored none of that name", named),
        Fault::SecretExpired(name) => missing(&name, "and its time is over", named),
        Fault::SecretUnreadable(name) => Problem::new(
            &Kind::UNREADABLE_SECRET,
            format!("your secret `{name}` is stored and cannot be opened\nstore it again, or ask the operator to look at the vault's keys"),
        )
        .with("secret", name),
        Fault::ValueMissing(name) => Problem::new(
            &Kind::MISSING_VALUE,
            format!("`{service}` needs `{{{name}}}`, which nobody told the gateway about you\nask whoever manages your account"),
        ),
        Fault::Unusable(what) => Problem::new(
            &Kind::UNUSABLE_VALUE,
            format!("{what} holds characters that cannot be sent to `{service}`\nstore it again without them: PUT {api}/secret"),
        ),
    }
}

fn missing(name: &str, why: &str, Named { service, api }: &Named<'_>) -> Problem {
    // A quote is a character of header names, and whoever registers a service chooses the name.
    let header = format!("secret-{name}: VALUE");
    let detail = format!(
        "`{service}` needs your secret `{name}`, {why}\n\
         store it: curl -X PUT -H \"Authorization: Bearer $TOKEN\" -H {} {api}/secret",
        word(&header)
    );
    Problem::new(&Kind::MISSING_SECRET, detail).with("secret", name).with("service", *service)
}

/// The name as it can stand anywhere in a URL, and between quotes of a shell.
pub(super) fn encoded(name: &str) -> Box<str> {
    const UNRESERVED: percent_encoding::AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(name, &UNRESERVED).to_string().into()
}
