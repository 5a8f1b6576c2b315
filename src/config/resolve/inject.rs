//! `[service.inject]`: what is added to upstream requests, and what must never be.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue};

use super::super::bounds::{INJECTIONS, TEMPLATE_BYTES, VARIABLES};
use super::super::fault::{Complaint, shown};
use super::super::header::{HeaderUse, header_use, spelling};
use super::super::service_file::{BasicFile, InjectFile};
use super::super::written::Pairs;
use super::super::{Basic, Hidden, Injection, Template, TemplatePart, value};
use super::scope::Scope;

pub(super) fn inject(here: &Scope<'_>, file: &InjectFile) -> Option<Injection> {
    let headers = headers(&here.key("headers"), &file.headers, file.basic_auth.is_some());
    let query = pairs(&here.key("query"), &file.query, query_name, |_| None);
    let cookies = pairs(&here.key("cookies"), &file.cookies, cookie_name, bad_in_cookie);
    let basic = match &file.basic_auth {
        Some(file) => basic(&here.key("basic_auth"), file).map(Some),
        None => Some(None),
    };
    Some(Injection { headers: headers?, query: query?, cookies: cookies?, basic: basic? })
}

fn headers(here: &Scope<'_>, file: &Pairs, basic: bool) -> Option<Vec<(HeaderName, Template)>> {
    here.at_most(INJECTIONS, file.0.len())?;
    let mut seen = HashSet::new();
    let read = file.0.iter().map(|(name, written)| {
        let here = here.key(name);
        let template = template(&here, written, bad_in_header);
        let name = here.accept(injected_header(name))?;
        if name == http::header::AUTHORIZATION && basic {
            here.fault("`basic_auth` sets this header too", "keep one of the two");
        }
        if !seen.insert(spelling(name.as_str())) {
            here.fault("this header is there twice, in another spelling", "write it once; case, `_` and `.` are alike");
        }
        Some((name, template?))
    });
    // Collected in two steps, so that each fault is reported.
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn injected_header(text: &str) -> Result<HeaderName, Complaint> {
    let name = value::header_name(text)?;
    let why = match header_use(name.as_str()) {
        HeaderUse::Cookie => {
            return Err(Complaint::new("cookies have a table of their own", "write `cookies = { name = \"…\" }`"));
        }
        HeaderUse::Free => return Ok(name),
        HeaderUse::Identity => "it says who calls",
        HeaderUse::Forwarding => "it says how the call came",
        HeaderUse::Framing => "it belongs to the connection, or to the body and its framing",
        HeaderUse::Override => "some upstreams take another method or path from it than the one that was judged",
        HeaderUse::Gateway => "the gateway sets or reads it itself",
    };
    Err(Complaint::new(
        format!("the header {} cannot be injected: {why}", shown(text)),
        "leave it out; the upstream gets X-Carta-User, X-Carta-Email, X-Request-Id, traceparent and X-Forwarded-*",
    ))
}

/// Query parameters or cookies.
fn pairs(
    here: &Scope<'_>,
    file: &Pairs,
    name: impl Fn(&str) -> Result<(), Complaint>,
    bad: impl Fn(&str) -> Option<&'static str> + Copy,
) -> Option<Vec<(String, Template)>> {
    here.at_most(INJECTIONS, file.0.len())?;
    let mut seen = HashSet::new();
    let read = file.0.iter().map(|(key, written)| {
        let here = here.key(key);
        let template = template(&here, written, bad);
        here.accept(name(key))?;
        if !seen.insert(key.clone()) {
            here.fault("it is there twice", "write it once");
        }
        Some((key.clone(), template?))
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn query_name(name: &str) -> Result<(), Complaint> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Complaint::new("that is no name of a query parameter", "write its decoded name"));
    }
    Ok(())
}

/// RFC 6265 §4.1.1: a cookie's name is a token.
fn cookie_name(name: &str) -> Result<(), Complaint> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Complaint::new("that is no name of a cookie", "write letters, digits and `!#$%&'*+-.^_|~`"));
    }
    Ok(())
}

fn basic(here: &Scope<'_>, file: &BasicFile) -> Option<Basic> {
    let read = |key: &str, written: &Option<Hidden>, bad: fn(&str) -> Option<&'static str>| {
        let here = here.key(key);
        match written {
            Some(written) => template(&here, written, bad),
            None => {
                here.missing(format!("write `{key} = \"…\"`; it may be empty"));
                None
            }
        }
    };
    let username = read("username", &file.username, bad_in_basic_username);
    let password = read("password", &file.password, bad_in_basic);
    Some(Basic { username: username?, password: password? })
}

/// A template, whose literal parts are judged as they will be sent. Never shows any of it.
fn template(here: &Scope<'_>, written: &Hidden, bad: impl Fn(&str) -> Option<&'static str>) -> Option<Template> {
    if written.reveal().len() > TEMPLATE_BYTES {
        here.fault(format!("the template is longer than {TEMPLATE_BYTES} bytes"), "write a shorter one");
        return None;
    }
    let template = here.accept(Template::parse(written.reveal(), here.references()))?;
    if template.parts.iter().filter(|part| matches!(part, TemplatePart::Variable(_))).count() > VARIABLES {
        here.fault(format!("the template has more than {VARIABLES} variables"), "write fewer");
        return None;
    }
    let why = template.literals().find_map(bad);
    if let Some(why) = why {
        here.fault(why, "change the text, or the variable or file that it comes from");
        return None;
    }
    Some(template)
}

fn bad_in_header(text: &str) -> Option<&'static str> {
    HeaderValue::from_str(text).is_err().then_some("the text has a character that a header cannot hold")
}

/// RFC 6265 §4.1.1: cookie-octet.
fn bad_in_cookie(text: &str) -> Option<&'static str> {
    let bad = |byte: u8| !byte.is_ascii_graphic() || b"\",;\\".contains(&byte);
    text.bytes().any(bad).then_some("the text has a character that a cookie cannot hold")
}

/// RFC 7617 §2: no control characters.
fn bad_in_basic(text: &str) -> Option<&'static str> {
    text.chars().any(char::is_control).then_some("the text has a control character")
}

fn bad_in_basic_username(text: &str) -> Option<&'static str> {
    if text.contains(':') { Some("the user name of basic authentication has a colon") } else { bad_in_basic(text) }
}
