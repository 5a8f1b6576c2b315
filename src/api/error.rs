//! Causes become problems: the one place of the API that chooses status, type and phrase.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};

use super::View;
use super::node::Node;
use crate::config::Faults;
use crate::identity::AuthError;
use crate::policy::Denied;
use crate::proxy::error::{Kind, Problem};
use crate::store::StoreError;

/// What clients look for in the body of a 400, whatever else it says: what they make is there, or a group is not.
const PHRASES: [&str; 3] = ["duplicate", "already exists", "not found"];

/// A refusal on its way out of a handler. It travels as an extension of an empty response, because only the door
/// knows the request's id that goes into the body.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Problem);

impl Refusal {
    /// 400: input that cannot be taken.
    pub(super) fn input(detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Problem::new(&Kind::INVALID_INPUT, without_phrases(detail.into())))
    }

    /// 404: nothing is there.
    pub(super) fn unknown(what: &str, name: &str) -> Self {
        Self(Problem::new(&Kind::NOT_FOUND, format!("unknown {what} `{name}`")))
    }

    /// 400 with the phrase that `exists_ok` looks for.
    pub(super) fn duplicate(what: &str, name: &str) -> Self {
        let detail = format!("duplicate record: the {what} `{name}` exists already\nchoose another name");
        Self(Problem::new(&Kind::DUPLICATE, detail).phrase("duplicate record"))
    }

    /// 400 with the phrase that `exists_ok` of a new account looks for.
    pub(super) fn user_exists(name: &str) -> Self {
        let detail = format!("user already exists: `{name}`\nchoose another name");
        Self(Problem::new(&Kind::DUPLICATE, detail).phrase("user already exists"))
    }

    /// 403: the caller lacks something other than levels.
    pub(super) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Problem::new(&Kind::PERMISSION_DENIED, detail))
    }

    /// 403: says the level, the resource, and who could give it.
    pub(super) fn denied(view: &View, keys: &[&str], denied: &Denied) -> Self {
        let resource = keys.join(".");
        Self::denied_of(view, resource.clone(), resource, denied)
    }

    /// The same about any node.
    pub(super) fn denied_on(view: &View, node: &Node, denied: &Denied) -> Self {
        Self::denied_of(view, node.title(), node.keys().join("."), denied)
    }

    fn denied_of(view: &View, title: String, resource: String, denied: &Denied) -> Self {
        let owner = denied.owner.and_then(|owner| view.user_name(owner));
        let ask = owner.map_or_else(
            || "nobody owns it: ask whoever runs this gateway".to_owned(),
            |owner| format!("its owner is `{owner}`: ask there"),
        );
        let detail = format!("this needs {} on `{title}`, and you have {}\n{ask}", denied.need, denied.held);
        let mut problem = Problem::new(&Kind::PERMISSION_DENIED, detail)
            .with("level", denied.need.to_string())
            .with("resource", resource);
        if let Some(owner) = owner {
            problem = problem.with("owner", owner);
        }
        Self(problem)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        Self(Problem::from(error))
    }
}

impl From<Faults> for Refusal {
    fn from(faults: Faults) -> Self {
        Self::input(faults.to_string())
    }
}

impl From<StoreError> for Refusal {
    /// What a handler did not expect and check before: two writers at once, or a store in trouble.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists { what: "user", name } => Self::user_exists(&name),
            StoreError::Exists { what, name } => Self::duplicate(what, &name),
            StoreError::Missing { what, name } => Self::unknown(what, &name),
            StoreError::Refused(why) | StoreError::Full(why) => Self(Problem::new(&Kind::CONFLICT, why)),
            StoreError::Unavailable(why) => {
                tracing::warn!(%why, "the store is not available");
                Self(Problem::new(&Kind::STORE_UNAVAILABLE, "the store cannot be reached\ntry again").retry_after(1))
            }
            StoreError::Damaged(why) => {
                tracing::error!(%why, "the store's data cannot be used");
                Self(Problem::new(&Kind::INTERNAL, "the store's data cannot be used"))
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.0.status().into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

/// The same without the input that it repeats, where that has one of the phrases: a name that cannot be taken is not one
/// that is taken.
fn without_phrases(detail: Cow<'static, str>) -> Cow<'static, str> {
    if !has_phrase(&detail) {
        return detail;
    }
    let line = |line: &str| {
        let input = line.split_once('`').and_then(|(before, rest)| Some((before, rest.rsplit_once('`')?.1)));
        match input.filter(|_| has_phrase(line)) {
            Some((before, after)) => format!("{before}`…`{after}"),
            None => line.to_owned(),
        }
    };
    detail.lines().map(line).collect::<Vec<_>>().join("\n").into()
}

/// The name, for a text that is not passed through that.
pub(super) fn repeated(name: &str) -> &str {
    if has_phrase(name) { "…" } else { name }
}

fn has_phrase(text: &str) -> bool {
    let lower = text.to_lowercase();
    PHRASES.iter().any(|phrase| lower.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_repeats_input_in_words_of_another_refusal() {
        for (said, told) in [
            ("`a b` cannot be a name\nuse `x`", "`a b` cannot be a name\nuse `x`"),
            ("`Duplicate key` cannot be a name\nuse `x`", "`…` cannot be a name\nuse `x`"),
            (
                "`a` is wrong\n  write `b`\nkey: `not found` and `c` are unknown",
                "`a` is wrong\n  write `b`\nkey: `…` are unknown",
            ),
        ] {
            assert_eq!(without_phrases(said.into()), told);
        }
        assert_eq!((repeated("team"), repeated("duplicate record")), ("team", "…"));
    }
}
