//! `policy eval`: policies and questions in, answers out, a JSON object a line.

use std::io::{BufRead, Read, Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::case::{self, Asked, Case, Question};
use crate::cli::Failure;
use crate::policy::{Because, Explanation, Levels, Subject, dialect};
use crate::proxy::why::Names;

/// The longest line that is read, in bytes: a line is held in memory as a whole.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// What stands for the id of a line that has none.
const NO_ID: &str = "null";

/// Answers every line. One that is malformed has its answer too, and the run goes on.
///
/// # Errors
/// [`Failure::NotFine`] at the end where a line was malformed.
pub(super) fn run(input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut count, mut malformed) = (0_u64, 0_u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = Read::take(&mut *input, LONGEST_LINE + 1).read_until(b'\n', &mut line);
        if read.map_err(|error| Failure::Internal(format!("cannot read: {error}")))? == 0 {
            break;
        }
        count += 1;
        let answered = if line.last() != Some(&b'\n') && line.len() as u64 > LONGEST_LINE {
            skip_line(input).map_err(|error| Failure::Internal(format!("cannot read: {error}")))?;
            Answered::error(NO_ID, &format!("the line is longer than {LONGEST_LINE} bytes"))
        } else {
            answer(&line, Timestamp::now())
        };
        malformed += u64::from(answered.malformed);
        writeln!(out, "{}", answered.line)?;
    }
    if malformed > 0 {
        return Err(Failure::NotFine(format!("{malformed} of {count} lines could not be read")));
    }
    Ok(())
}

fn skip_line(input: &mut dyn BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let Some(end) = buffer.iter().position(|byte| *byte == b'\n') else {
            let length = buffer.len();
            if length == 0 {
                return Ok(());
            }
            input.consume(length);
            continue;
        };
        input.consume(end + 1);
        return Ok(());
    }
}

/// The answer to a line.
#[derive(Clone, Debug)]
pub struct Answered {
    /// A JSON object, without the end of the line.
    pub line: String,
    /// Whether the line could not be read, and the answer says why.
    pub malformed: bool,
}

#[derive(Serialize)]
struct Answers<'a> {
    id: &'a RawValue,
    answers: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    allowed: bool,
    levels: Vec<&'static str>,
    mask: i128,
    navigable: bool,
    because: String,
}

/// Answers a line, with or without its end. Questions that name no time are asked at `now`.
#[must_use]
pub fn answer(line: &[u8], now: Timestamp) -> Answered {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => return Answered::error(NO_ID, &format!("the line is not UTF-8: {error}")),
    };
    let id = id(text);
    let Some(known) = id.as_deref() else {
        let why = case::read(text).err().unwrap_or_else(|| "the line has no `id` that could be repeated".to_owned());
        return Answered::error(NO_ID, &why);
    };
    let case = match case::read(text) {
        Ok(case) => case,
        Err(why) => return Answered::error(known.get(), &why),
    };
    let (policy, directory) = case.world.compile();
    let names = Names { policy: &policy, directory: &directory };
    let now = case.now.unwrap_or(now);
    let answers = case.questions.iter().map(|question| ask(&case, names, question, now)).collect();
    match serde_json::to_string(&Answers { id: known, answers }) {
        Ok(line) => Answered { line, malformed: false },
        Err(error) => Answered::error(known.get(), &error.to_string()),
    }
}

impl Answered {
    fn error(id: &str, why: &str) -> Self {
        let why = serde_json::Value::from(why);
        Self { line: format!("{{\"id\":{id},\"error\":{why}}}"), malformed: true }
    }
}

/// The line's id as it is written, where it is JSON that can be written again.
fn id(line: &str) -> Option<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Line {
        id: Box<RawValue>,
    }
    let line: Line = serde_json::from_str(line).ok()?;
    serde_json::from_str::<serde_json::Value>(line.id.get()).is_ok().then_some(line.id)
}

fn ask(case: &Case, known: Names<'_>, question: &Question, now: Timestamp) -> Answer {
    let names = match &question.resource {
        Asked::Keys(keys) => [keys.clone()].into(),
        Asked::Text(text) => dialect::names(known.policy, question.user, text, now),
    };
    let mut whole = Answer {
        allowed: false,
        levels: Vec::new(),
        mask: 0,
        navigable: false,
        because: "no name that it stands for is known to a grant of the user's".to_owned(),
    };
    for name in &names {
        let keys: Vec<&str> = name.iter().map(String::as_str).collect();
        let one = ask_one(case, known, question, &keys, now);
        if !whole.allowed {
            let of = if names.len() > 1 { format!("{}: ", keys.join(".")) } else { String::new() };
            whole.because = of + &one.because;
        }
        whole.allowed |= one.allowed;
        whole.mask |= one.mask;
        whole.navigable |= one.navigable;
    }
    whole.levels = dialect::mask(whole.mask).words().collect();
    whole
}

/// Answers for one name.
fn ask_one(case: &Case, known: Names<'_>, question: &Question, keys: &[&str], now: Timestamp) -> Answer {
    let policy = known.policy;
    let explain = |need: i128| {
        let need = dialect::mask(need);
        if question.explicit {
            policy.explain_explicit(question.user, keys, need, now)
        } else {
            policy.explain(question.user, keys, need, now)
        }
    };
    let level = question.level;
    let mut explained = explain(level);
    let mask = mask(case, &explained);
    let hit = mask & level;
    let allowed = if question.all { level != 0 && hit == level } else { hit != 0 };
    if allowed && hit != level {
        // Any of it is enough: what is asked to be explained is what is there.
        explained = explain(hit);
    }
    Answer {
        allowed,
        levels: Vec::new(),
        mask,
        navigable: (mask != 0 && !question.explicit) || policy.navigable(question.user, keys, now),
        because: because(&explained, allowed, level, known),
    }
}

/// What is held, with the bits that are no level here.
fn mask(case: &Case, explained: &Explanation) -> i128 {
    if explained.because == Because::Owner {
        return Levels::ALL.bits().into();
    }
    explained.counting.iter().fold(0, |mask, grant| {
        let key = (grant.subject.clone(), grant.pattern.clone());
        // Of what is shared with who holds the same elsewhere, only a part may count.
        let written = case.masks.get(&key).copied().filter(|_| !matches!(grant.subject, Subject::Same(_)));
        mask | written.unwrap_or_else(|| grant.levels.bits().into())
    })
}

fn because(explained: &Explanation, allowed: bool, level: i128, known: Names<'_>) -> String {
    let mut text = if level == 0 {
        "a level of nothing is never allowed".to_owned()
    } else if allowed == explained.allowed {
        known.reason(explained)
    } else {
        format!("{} holds other bits than those asked for", known.user(explained.user))
    };
    for grant in &explained.deciding {
        text += &format!("; decides: {}", known.sentence(grant));
    }
    for beaten in &explained.beaten {
        text += &format!("; does not count: {}", known.beaten(beaten));
    }
    text
}
