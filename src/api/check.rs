//! `POST /permissions/check`: applications that protect things of their own ask here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Api;
use super::error::Refusal;
use super::extract::{Caller, Sent};
use super::openapi::shapes;
use super::view::View;
use crate::policy::{Levels, MAX_KEYS, UserId};
use crate::proxy::why::{self, Names, Why};

/// The most questions of one request: each is a walk or two.
const MOST_QUESTIONS: usize = 1000;

/// Questions, at most 1000.
#[derive(Deserialize, ToSchema)]
#[schema(as = Questions)]
struct Batch {
    #[schema(max_items = 1000)]
    checks: Vec<Question>,
    /// Whether each answer says why.
    #[serde(default)]
    reasons: bool,
}

/// Whether a user holds levels on a resource.
#[derive(Deserialize, ToSchema)]
struct Question {
    /// Name or id; the caller where it is not said.
    user: Option<String>,
    resource: Name,
    level: Words,
    /// Whether any of the levels is enough.
    #[serde(default)]
    any: bool,
}

/// A dotted name for people, or opaque keys.
#[derive(Deserialize, ToSchema)]
#[schema(as = ResourceName)]
#[serde(untagged, expecting = "a resource is a dotted text or a list of keys")]
enum Name {
    Text(String),
    Keys(Vec<String>),
}

/// Levels: words, letters or presets in a text, or a list of such texts.
#[derive(Deserialize, ToSchema)]
#[schema(as = LevelWords)]
#[serde(untagged, expecting = "a level is a text or a list of texts")]
enum Words {
    Text(String),
    List(Vec<String>),
}

/// Ask about levels
///
/// Answers each question by the grants as they are now. Oneself one may always ask about; about others, platform
/// administrators may, and the owner and the administrators of the resource in question. A user who is not there, or is
/// disabled, may do nothing.
#[utoipa::path(post, path = "/permissions/check", tag = "permissions", request_body = Batch,
    responses((status = 200, description = "the answers, in the order of the questions", body = Answers)))]
pub(super) async fn check(State(api): State<Arc<Api>>, caller: Caller, sent: Sent) -> Result<Json<Value>, Refusal> {
    let batch: Batch = serde_json::from_value(sent.object(&api, &caller).await?).map_err(|error| {
        Refusal::input(format!("{error}\nsend {{\"checks\": [{{\"resource\": …, \"level\": …}}]}}"))
    })?;
    // The state is taken when the questions are there, however long they took.
    let (view, now) = (api.view(), Timestamp::now());
    if batch.checks.len() > MOST_QUESTIONS {
        return Err(Refusal::input(format!("more than {MOST_QUESTIONS} questions\nask the rest in another request")));
    }
    let mut answers = Vec::with_capacity(batch.checks.len());
    for (number, question) in batch.checks.iter().enumerate() {
        // Others of this thread have their turn: one answer may follow many shares.
        if number > 0 {
            tokio::task::yield_now().await;
        }
        let place = |what: String| Refusal::input(format!("checks[{number}]: {what}"));
        let keys = question.resource.keys().map_err(place)?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let need = question.level.levels().map_err(place)?;
        let user = whom(&view, &caller, question.user.as_deref(), &keys, now)
            .ok_or_else(|| Refusal::forbidden(format!("checks[{number}]: {NOT_YOURS}")))?;
        answers.push(match user {
            Whom::User(user) => {
                let mut answer = answer(&view, user, &keys, (need, question.any), now);
                if batch.reasons
                    && let Some(members) = answer.as_object_mut()
                {
                    let why = reason(&view, &caller, user, &keys, (need, question.any), now);
                    members.insert("why".to_owned(), why);
                }
                answer
            }
            Whom::Nobody => nobody(batch.reasons),
        });
    }
    Ok(Json(json!({ "revision": view.state.revision, "answers": answers })))
}

/// The answers to all questions, by the state of one revision.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `check` makes")]
struct Answers {
    revision: u64,
    answers: Vec<Answer>,
}

/// The answer to one question.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `answer` makes")]
struct Answer {
    allowed: bool,
    /// All that the user holds on the resource.
    levels: Vec<String>,
    /// Whether a menu should lead there: something is held on it or below it. Never let in by it.
    navigable: bool,
    /// With `reasons`: the walk that decided, as far as the caller may see it.
    #[schema(nullable = false)]
    why: Option<shapes::Why>,
}

const NOT_YOURS: &str = "about somebody else only the owner and the administrators of the resource may ask\nask with the \
                         user's own token, or have admin on the resource";

/// Whom a question is about.
enum Whom {
    User(UserId),
    /// A user who is not there or cannot come in.
    Nobody,
}

/// Whom the question is about, where the caller may ask it. That is judged before the name is looked up, so that nobody
/// learns by asking who is there.
fn whom(view: &View, caller: &Caller, user: Option<&str>, keys: &[&str], now: Timestamp) -> Option<Whom> {
    let me = &caller.identity.account;
    let Some(user) = user.filter(|user| *user != &*me.name && *user != me.id.to_string()) else {
        return Some(Whom::User(me.id));
    };
    let policy = &view.state.policy;
    let may = me.administrator || policy.may_administer(me.id, keys, now).is_ok();
    may.then(|| match view.user(user).filter(|account| !account.disabled) {
        Some(account) => Whom::User(account.id),
        None => Whom::Nobody,
    })
}

fn answer(view: &View, user: UserId, keys: &[&str], (need, any): (Levels, bool), now: Timestamp) -> Value {
    let policy = &view.state.policy;
    let held = policy.levels(user, keys, now);
    let levels: Vec<&str> = held.words().collect();
    json!({
        "allowed": if any { held.has_any(need) } else { held.has_all(need) },
        "levels": levels,
        "navigable": policy.navigable(user, keys, now),
    })
}

/// Why the answer is what it is, as much of it as the caller may see.
fn reason(
    view: &View,
    caller: &Caller,
    user: UserId,
    keys: &[&str],
    (need, any): (Levels, bool),
    now: Timestamp,
) -> Value {
    let policy = &view.state.policy;
    let hit = policy.levels(user, keys, now) & need;
    // Where any of it is enough, what is there is what there is to explain.
    let need = if any && !hit.is_empty() { hit } else { need };
    let explained = policy.explain(user, keys, need, now);
    let names = Names { policy, directory: &view.state.directory };
    Why::of(names, &explained, keys, now).json(why::View::of(policy, caller.id(), keys, now))
}

fn nobody(reasons: bool) -> Value {
    let answer = json!({ "allowed": false, "levels": [], "navigable": false });
    if !reasons {
        return answer;
    }
    json!({
        "allowed": false,
        "levels": [],
        "navigable": false,
        "why": { "decision": "refused", "reason": "there is no such user, or none who may come in" },
    })
}

impl Name {
    /// The keys. In a text nothing is a wildcard, nothing is cut and no key is empty: whoever passes on what a caller
    /// wrote uses a list, in which every text is a key.
    fn keys(&self) -> Result<Vec<String>, String> {
        let keys = match self {
            Self::Keys(keys) => keys.clone(),
            Self::Text(text) => text.split('.').map(|key| read_key(key, text)).collect::<Result<_, _>>()?,
        };
        if keys.len() > MAX_KEYS { Err(format!("a resource name has at most {MAX_KEYS} keys")) } else { Ok(keys) }
    }
}

fn read_key(key: &str, text: &str) -> Result<String, String> {
    if key.is_empty() || key.contains(['*', '?']) {
        return Err(format!("`{text}` names no resource\nwrite keys joined by dots, or a list of keys"));
    }
    let decoded =
        percent_decode_str(key).decode_utf8().map_err(|_| format!("`{text}` is not percent-encoded UTF-8"))?;
    Ok(decoded.into_owned())
}

impl Words {
    fn levels(&self) -> Result<Levels, String> {
        let read = |text: &str| text.parse::<Levels>().map_err(|error| error.to_string());
        let levels = match self {
            Self::Text(text) => read(text)?,
            Self::List(words) => words.iter().try_fold(Levels::NONE, |all, word| Ok::<_, String>(all | read(word)?))?,
        };
        if levels.is_empty() {
            Err("a question for no level is always answered with no".to_owned())
        } else {
            Ok(levels)
        }
    }
}
