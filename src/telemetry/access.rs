//! The access line: one event a request at target `access`, when its answer is over.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;

use super::RequestId;

/// What a request was and what became of it. Every field is safe to log: the path comes without its query.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The id that the caller has too.
    pub request_id: &'a RequestId,
    /// What the caller calls the request; see [`super::caller_request_id`].
    pub caller_request_id: Option<&'a str>,
    /// The login name, where somebody was identified.
    pub user: Option<&'a str>,
    /// `<namespace>/<service>`, where there is one.
    pub service: Option<&'a str>,
    /// The operation that matched.
    pub operation: Option<&'a str>,
    /// What was decided.
    pub decision: &'static str,
    /// The problem type, where the answer is the gateway's own.
    pub problem: Option<&'static str>,
    /// The request's method.
    pub method: &'a str,
    /// The request's path, without the query, as sent.
    pub path: &'a str,
    /// The answer's status.
    pub status: u16,
    /// From the head on its way to the upstream to the upstream's head.
    pub upstream: Option<Duration>,
    /// From the request's head to the end of the answer.
    pub total: Duration,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The address that the connection came from.
    pub peer: IpAddr,
    /// The trace that the request belongs to.
    pub trace_id: Option<&'a str>,
    /// Whether the answer ended as it should.
    pub complete: bool,
}

/// Whether access lines are wanted at all, so that a caller need not collect them.
#[must_use]
pub fn wanted() -> bool {
    tracing::enabled!(target: "access", tracing::Level::INFO)
}

/// Writes the line. Gateway time is the total less the wait for the upstream's head.
///
/// What the log makes of an event costs as much as half a call: the usual forms are written here, word for word the same.
pub fn write(line: &Line<'_>) {
    let Some(form) = FORM.get() else { return event(line) };
    TEXT.with_borrow_mut(|text| {
        text.clear();
        form.write(line, Timestamp::now(), text);
        // Nobody could be told that the log cannot be written.
        let _ = io::stderr().write_all(text);
    });
}

/// Has lines written in this form from now on.
pub(super) fn write_as(form: Form) {
    // A process has one log: see `telemetry::init`.
    let _ = FORM.set(form);
}

/// The line as an event of the log.
fn event(line: &Line<'_>) {
    tracing::info!(
        target: "access",
        request_id = line.request_id.as_str(),
        caller_request_id = line.caller_request_id,
        trace_id = line.trace_id,
        peer = %line.peer,
        user = line.user,
        method = line.method,
        path = line.path,
        service = line.service,
        operation = line.operation,
        decision = line.decision,
        problem = line.problem,
        status = line.status,
        upstream_us = line.upstream.map(micros),
        gateway_us = micros(line.gateway()),
        total_us = micros(line.total),
        bytes_in = line.bytes_in,
        bytes_out = line.bytes_out,
        complete = line.complete,
    );
}

static FORM: OnceLock<Form> = OnceLock::new();

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How the log writes an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A line for people, without colours.
    Plain,
    /// A JSON object.
    Json,
}

/// The value of a field.
enum Field<'a> {
    Text(&'a str),
    Number(u64),
    Truth(bool),
    Address(IpAddr),
}

impl Line<'_> {
    fn gateway(&self) -> Duration {
        self.total.saturating_sub(self.upstream.unwrap_or_default())
    }

    fn fields(&self) -> [(&'static str, Option<Field<'_>>); 18] {
        let text = |text| Some(Field::Text(text));
        let number = |number| Some(Field::Number(number));
        [
            ("request_id", text(self.request_id.as_str())),
            ("caller_request_id", self.caller_request_id.map(Field::Text)),
            ("trace_id", self.trace_id.map(Field::Text)),
            ("peer", Some(Field::Address(self.peer))),
            ("user", self.user.map(Field::Text)),
            ("method", text(self.method)),
            ("path", text(self.path)),
            ("service", self.service.map(Field::Text)),
            ("operation", self.operation.map(Field::Text)),
            ("decision", text(self.decision)),
            ("problem", self.problem.map(Field::Text)),
            ("status", number(self.status.into())),
            ("upstream_us", self.upstream.map(|upstream| Field::Number(micros(upstream)))),
            ("gateway_us", number(micros(self.gateway()))),
            ("total_us", number(micros(self.total))),
            ("bytes_in", number(self.bytes_in)),
            ("bytes_out", number(self.bytes_out)),
            ("complete", Some(Field::Truth(self.complete))),
        ]
    }
}

impl Form {
    fn write(self, line: &Line<'_>, now: Timestamp, out: &mut Vec<u8>) {
        let (begin, level, end): (&[u8], &[u8], &[u8]) = match self {
            Self::Plain => (b"", b"  INFO access:", b"\n"),
            Self::Json => (b"{\"timestamp\":\"", b"\",\"level\":\"INFO\"", b",\"target\":\"access\"}\n"),
        };
        out.extend_from_slice(begin);
        push_time(now, out);
        out.extend_from_slice(level);
        for (name, value) in line.fields() {
            let Some(value) = value else { continue };
            match self {
                Self::Plain => out.push(b' '),
                Self::Json => out.extend_from_slice(b",\""),
            }
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(if self == Self::Plain { b"=" } else { b"\":" });
            self.push(&value, out);
        }
        out.extend_from_slice(end);
    }

    fn push(self, value: &Field<'_>, out: &mut Vec<u8>) {
        match value {
            // Most texts are written by both forms as they are, between quotes.
            Field::Text(text) if text.bytes().all(is_plain) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            Field::Text(text) if self == Self::Plain => push(out, format_args!("{text:?}")),
            Field::Text(text) => out.extend_from_slice(serde_json::Value::from(*text).to_string().as_bytes()),
            Field::Number(number) => push_digits(*number, 1, out),
            Field::Truth(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
            Field::Address(address) => {
                let quote: &[u8] = if self == Self::Plain { b"" } else { b"\"" };
                out.extend_from_slice(quote);
                push_address(*address, out);
                out.extend_from_slice(quote);
            }
        }
    }
}

fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'
}

fn push_address(address: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(address) = address else { return push(out, format_args!("{address}")) };
    for (place, number) in address.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        push_digits(number.into(), 1, out);
    }
}

/// The time to the microsecond (RFC 3339).
fn push_time(now: Timestamp, out: &mut Vec<u8>) {
    let time = Offset::UTC.to_datetime(now);
    let parts = [
        (i64::from(time.year()), 4, b'-'),
        (time.month().into(), 2, b'-'),
        (time.day().into(), 2, b'T'),
        (time.hour().into(), 2, b':'),
        (time.minute().into(), 2, b':'),
        (time.second().into(), 2, b'.'),
        ((time.subsec_nanosecond() / 1000).into(), 6, b'Z'),
    ];
    for (number, width, after) in parts {
        push_digits(number.unsigned_abs(), width, out);
        out.push(after);
    }
}

/// The number in at least `width` digits.
fn push_digits(mut number: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    while number > 0 || out.len() < start + width {
        out.push(b'0' + u8::try_from(number % 10).unwrap_or_default());
        number /= 10;
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Memory takes all.
    let _ = out.write_fmt(text);
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'w> MakeWriter<'w> for Written {
        type Writer = Self;

        fn make_writer(&'w self) -> Self {
            self.clone()
        }
    }

    /// What the log makes of the line, without its time.
    fn logged(form: Form, line: &Line<'_>) -> String {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(written.clone());
        let registry = tracing_subscriber::registry();
        match form {
            Form::Plain => tracing::subscriber::with_default(registry.with(layer), || event(line)),
            Form::Json => {
                let layer = layer.json().flatten_event(true).with_current_span(false);
                tracing::subscriber::with_default(registry.with(layer), || event(line));
            }
        }
        let text = written.0.lock().unwrap().clone();
        timeless(&String::from_utf8(text).unwrap())
    }

    fn own(form: Form, line: &Line<'_>) -> String {
        let mut text = Vec::new();
        form.write(line, Timestamp::now(), &mut text);
        timeless(&String::from_utf8(text).unwrap())
    }

    fn timeless(text: &str) -> String {
        let start = text.find("20").unwrap();
        let (time, rest) = text[start..].split_at("2026-11-22T21:12:15.637790Z".len());
        assert!(time.parse::<Timestamp>().is_ok() && time.ends_with('Z'), "{text}");
        [&text[..start], rest].concat()
    }

    proptest! {
        #[test]
        fn a_line_is_word_for_word_what_the_log_would_make_of_it(
            texts in prop::array::uniform4(prop::option::of(prop_oneof!["[ -~]{0,20}", "\\PC{0,8}", any::<String>()])),
            (user, path) in ("\\PC{0,12}", "/[a-z\"'/%]{0,20}"),
            numbers in prop::array::uniform4(prop_oneof![0..3_u64, any::<u64>()]),
            upstream in prop::option::of(any::<u32>()),
            v6 in any::<bool>(),
            complete in any::<bool>(),
        ) {
            let [caller, service, operation, trace] = texts.each_ref().map(|text| text.as_deref());
            let line = Line {
                request_id: &RequestId::mint(),
                caller_request_id: caller,
                user: Some(&user),
                service,
                operation,
                decision: "allow",
                problem: service.map(|_| "permission-denied"),
                method: "GET",
                path: &path,
                status: 404,
                upstream: upstream.map(|micros| Duration::from_micros(micros.into())),
                total: Duration::from_micros(numbers[0]),
                bytes_in: numbers[1],
                bytes_out: numbers[2],
                peer: if v6 { "2001:db8::1".parse().unwrap() } else { "192.0.2.7".parse().unwrap() },
                trace_id: trace,
                complete,
            };
            for form in [Form::Plain, Form::Json] {
                prop_assert_eq!(own(form, &line), logged(form, &line));
            }
        }
    }

    #[test]
    fn the_time_is_written_to_the_microsecond() {
        for time in ["2026-01-02T03:04:05.000006Z", "1999-12-31T23:59:59.999999Z"] {
            let mut text = Vec::new();
            push_time(time.parse().unwrap(), &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), time);
        }
    }
}
