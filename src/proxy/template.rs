//! Filling in a template: literal parts, the user's own values, and secrets, each as its place can hold it.
//!
//! A value of the user (name, address, groups, claims) is percent-encoded where its place could not hold it as it is. A
//! secret never is: its bytes are what the upstream expects, so one that does not fit is refused.

use std::borrow::Cow;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::config::{Template, TemplatePart, Variable};
use crate::identity::Identity;
use crate::upstream::is_free_of_controls;
use crate::vault::{Own, SecretFault, Secrets};
use crate::wiped::Buffer;

/// Where a value goes, which decides what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header's value (RFC 9110 §5.5).
    Header,
    /// A query parameter's value: encoded as a whole, so it may hold anything.
    Query,
    /// A cookie's value (RFC 6265 §4.1.1).
    Cookie,
    /// The user name of basic authentication (RFC 7617 §2).
    BasicUser,
    /// The password of basic authentication.
    BasicPassword,
}

/// What templates are filled from.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// Whose call it is.
    pub identity: &'a Identity,
    /// The caller's own secrets.
    pub own: Own<'a>,
    /// Now.
    pub now: Timestamp,
}

impl<'a> Values<'a> {
    /// Those of this caller, whose secrets are among these.
    #[must_use]
    pub fn of(identity: &'a Identity, secrets: &'a Secrets, now: Timestamp) -> Self {
        Self { identity, own: secrets.own(identity.account.id), now }
    }
}

/// Why a template cannot be filled. Holds names, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The user has no such secret.
    SecretMissing(String),
    /// The secret's time is over.
    SecretExpired(String),
    /// The secret does not open.
    SecretUnreadable(String),
    /// A value of the user is not known: `{user.email}`, `{claim:…}`.
    ValueMissing(String),
    /// The value would break the place that it is for.
    Unusable(String),
}

/// What a header's value may not hold as it is; blanks are harmless inside.
const NOT_IN_HEADER: AsciiSet = CONTROLS.add(b'%');
/// A group's name within a list joined by commas.
const NOT_IN_LIST: AsciiSet = NOT_IN_HEADER.add(b',');
const NOT_IN_COOKIE: AsciiSet = CONTROLS.add(b'%').add(b' ').add(b'"').add(b',').add(b';').add(b'\\');
/// RFC 3986 §2.3: the unreserved characters stay.
const NOT_IN_QUERY: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Adds the filled template to `out`. `scratch` holds one secret at a time and is wiped before this returns.
///
/// # Errors
/// [`Fault`] as above; `out` is then to be thrown away.
pub fn fill(
    template: &Template,
    values: &Values<'_>,
    place: Place,
    out: &mut Buffer,
    scratch: &mut Zeroizing<Vec<u8>>,
) -> Result<(), Fault> {
    template.parts.iter().try_for_each(|part| match part {
        TemplatePart::Literal(text) if place.push(text.reveal().as_bytes(), out) => Ok(()),
        TemplatePart::Literal(_) => Err(Fault::Unusable("a fixed part of the template".to_owned())),
        TemplatePart::Variable(Variable::Secret(name)) => {
            let opened = values.own.open(name, values.now, scratch);
            let pushed = match opened {
                Ok(()) if place.push(scratch, out) => Ok(()),
                Ok(()) => Err(Fault::Unusable(format!("the secret `{name}`"))),
                Err(SecretFault::Missing) => Err(Fault::SecretMissing(name.to_string())),
                Err(SecretFault::Expired) => Err(Fault::SecretExpired(name.to_string())),
                Err(SecretFault::Unreadable) => Err(Fault::SecretUnreadable(name.to_string())),
            };
            scratch.zeroize();
            pushed
        }
        TemplatePart::Variable(variable) => push_value(variable, values, place, out),
    })
}

impl Place {
    /// Adds a secret or a fixed part: as it is, or encoded as a whole where the place decodes it again. False where the
    /// bytes would break the place.
    fn push(self, bytes: &[u8], out: &mut Buffer) -> bool {
        let fits = match self {
            Self::Query => true,
            Self::Header | Self::BasicPassword => is_free_of_controls(bytes),
            Self::BasicUser => is_free_of_controls(bytes) && !bytes.contains(&b':'),
            Self::Cookie => {
                bytes.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\'))
            }
        };
        if !fits {
            return false;
        }
        if self == Self::Query {
            percent_encode(bytes, &NOT_IN_QUERY).for_each(|piece| out.push(piece.as_bytes()));
        } else {
            out.push(bytes);
        }
        true
    }
}

fn push_value(variable: &Variable, values: &Values<'_>, place: Place, out: &mut Buffer) -> Result<(), Fault> {
    let account = &values.identity.account;
    match variable {
        Variable::UserName => push_encoded(&account.name, place, false, out),
        Variable::UserId => push_encoded(&account.id.to_string(), place, false, out),
        Variable::UserEmail => match &account.email {
            Some(email) => push_encoded(email, place, false, out),
            None => Err(Fault::ValueMissing("user.email".to_owned())),
        },
        Variable::Groups => push_list(account.groups.iter().map(|group| &**group), place, out),
        Variable::TokenGroups => push_list(values.identity.token_groups(), place, out),
        Variable::Claim(name) => match claim(values.identity, name) {
            Some(text) => push_encoded(&text, place, false, out),
            None => Err(Fault::ValueMissing(format!("claim:{name}"))),
        },
        // Handled by the caller, as only it has the scratch buffer; a template that got here would be a fault of ours.
        Variable::Secret(name) => Err(Fault::SecretUnreadable(name.to_string())),
    }
}

fn push_list<'a>(mut names: impl Iterator<Item = &'a str>, place: Place, out: &mut Buffer) -> Result<(), Fault> {
    let mut first = true;
    names.try_for_each(|name| {
        if !std::mem::take(&mut first) {
            out.push(if place == Place::Query || place == Place::Cookie { b"%2C" } else { b"," });
        }
        push_encoded(name, place, true, out)
    })
}

fn claim<'a>(identity: &'a Identity, name: &str) -> Option<Cow<'a, str>> {
    match identity.claims.as_ref()?.0.get(name)? {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(value) => Some(value.to_string().into()),
        _ => None,
    }
}

fn push_encoded(text: &str, place: Place, in_list: bool, out: &mut Buffer) -> Result<(), Fault> {
    let set = match place {
        Place::Header if in_list => &NOT_IN_LIST,
        Place::Header => &NOT_IN_HEADER,
        Place::Query => &NOT_IN_QUERY,
        Place::Cookie => &NOT_IN_COOKIE,
        Place::BasicUser | Place::BasicPassword if place.push(text.as_bytes(), out) => return Ok(()),
        Place::BasicUser | Place::BasicPassword => return Err(Fault::Unusable("a value of the user".to_owned())),
    };
    percent_encode(text.as_bytes(), set).for_each(|piece| out.push(piece.as_bytes()));
    Ok(())
}
