//! The changes that a preview is asked for, as they are written.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::error::Refusal;
use crate::api::extract::Caller;
use crate::api::view::View;
use crate::policy::written::{Written, levels_of, moment, resource_of};
use crate::policy::{Change, Grant, Levels, Pattern, PatternKey, Permit, ResourceId, Subject};

/// The most changes of one preview.
const MOST_CHANGES: usize = 1000;

/// The changes to look at.
#[derive(ToSchema)]
#[schema(as = Changes)]
#[expect(dead_code, reason = "it describes what `read` reads")]
pub(super) struct Lines {
    #[schema(min_items = 1, max_items = 1000)]
    changes: Vec<Line>,
}

/// A change, as sent.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChangeLine)]
#[serde(deny_unknown_fields)]
struct Line {
    /// `user:bob` or `bob`, `group:Org:Name`, `role:Analyst`, `everyone`, `holders:read:materials`.
    subject: String,
    /// `materials.mp`, `materials.*.tag`.
    resource: String,
    /// `null` takes the grant away; absent is refused by [`read`], because it is more likely to be forgotten.
    #[serde(default)]
    #[schema(required = true)]
    levels: Value,
    /// A moment, or a duration from now.
    #[serde(default)]
    expires: Option<String>,
}

/// The changes that are meant, each of which the caller could make.
pub(super) fn read(view: &View, caller: &Caller, body: &Value, now: Timestamp) -> Result<Vec<Change>, Refusal> {
    let form = "write {\"changes\": [{\"subject\": …, \"resource\": …, \"levels\": … or null, \"expires\": …}]}";
    let lines = body.get("changes").and_then(Value::as_array);
    let lines = lines.ok_or_else(|| Refusal::input(format!("there is no list `changes`\n{form}")))?;
    if let Some(other) = body.as_object().and_then(|body| body.keys().find(|key| *key != "changes")) {
        return Err(Refusal::input(format!("unknown member `{other}`\n{form}")));
    }
    if lines.is_empty() {
        return Err(Refusal::input(format!("`changes` is empty\n{form}")));
    }
    if lines.len() > MOST_CHANGES {
        let detail = format!("{} changes are more than the {MOST_CHANGES} that one preview takes", lines.len());
        return Err(Refusal::input(detail));
    }
    let read = |(number, line): (usize, &Value)| {
        let at = |why: String| Refusal::input(format!("change {}: {why}", number + 1));
        if line.get("levels").is_none() {
            return Err(at(format!("there is no `levels`\nwrite null to take the grant away\n{form}")));
        }
        let line: Line = serde_json::from_value(line.clone()).map_err(|error| at(format!("{error}\n{form}")))?;
        let pattern = resource_of(&line.resource).map_err(&at)?;
        let written: Written = line.subject.parse().map_err(&at)?;
        let subject = subject(view, &written)?;
        let prefix: Vec<&str> = pattern.literal_prefix().collect();
        let policy = &view.state.policy;
        let Permit { .. } = policy
            .may_administer(caller.id(), &prefix, now)
            .map_err(|denied| Refusal::denied(view, &prefix, &denied))?;
        let levels = given(&line.levels).map_err(&at)?;
        if let Subject::User(user) = subject
            && pattern.is_literal()
            && policy.owner(&prefix) == Some(user)
        {
            return Err(at(format!("the user owns `{pattern}` and holds every level on it without a grant")));
        }
        let expires = line.expires.as_deref().map(|text| moment(text, now)).transpose().map_err(&at)?;
        Ok(match levels {
            Some(levels) => Change::Grant(Grant { subject, pattern, levels, expires }),
            None => Change::Ungrant(subject, pattern),
        })
    };
    lines.iter().enumerate().map(read).collect()
}

/// Levels as written: words or letters, a preset, a list of words, or null for none at all.
fn given(written: &Value) -> Result<Option<Levels>, String> {
    match written {
        Value::Null => Ok(None),
        Value::String(text) => levels_of(text).map(Some),
        Value::Array(words) => {
            let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
            let words = words.ok_or("`levels` has something that is no word")?;
            levels_of(&words.join(",")).map(Some)
        }
        other => {
            Err(format!("`{other}` is no levels\nwrite a text such as \"execute,read\", a list of words, or null"))
        }
    }
}

/// The subject that is meant here.
fn subject(view: &View, written: &Written) -> Result<Subject, Refusal> {
    Ok(match written {
        Written::User(name) => Subject::User(view.user(name).ok_or_else(|| Refusal::unknown("user", name))?.id),
        Written::Group(name) => Subject::Group(view.group(name).ok_or_else(|| Refusal::unknown("group", name))?.id),
        Written::Role(name) => Subject::Role(name.as_str().into()),
        Written::Everyone => Subject::Everyone,
        Written::Holders(levels, of) => {
            let id = resource(view, of).ok_or_else(|| Refusal::unknown("resource", &of.to_string()))?;
            Subject::Holders(*levels, id)
        }
        Written::Same(of) => {
            Subject::Same(resource(view, of).ok_or_else(|| Refusal::unknown("resource", &of.to_string()))?)
        }
        Written::Itself(of) => {
            Subject::Itself(resource(view, of).ok_or_else(|| Refusal::unknown("resource", &of.to_string()))?)
        }
    })
}

fn resource(view: &View, name: &Pattern) -> Option<ResourceId> {
    if let Some(id) = name.keys().last().and_then(PatternKey::literal).and_then(ResourceId::of_key) {
        return view.node_of(id).map(|node| node.id());
    }
    match name.keys() {
        [PatternKey::Key(namespace)] => Some(view.catalog.namespace(namespace)?.id),
        [PatternKey::Key(namespace), PatternKey::Key(service)] => Some(view.catalog.service(namespace, service)?.id),
        _ => None,
    }
}
