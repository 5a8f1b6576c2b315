//! Lists in pages (`docs/API.md` §1).

use std::convert::Infallible;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::LINK;
use serde::Serialize;
use utoipa::IntoParams;

use super::error::Refusal;
use super::extract::Asked;

/// A page of a list. Without `limit` lists are whole.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `Wanted::read` reads")]
pub(super) struct Page {
    /// The most entries of the answer; where there are more, `Link` has the next page.
    #[param(nullable = false, minimum = 1)]
    limit: Option<u64>,
    /// How many entries to leave out.
    #[param(nullable = false, minimum = 0)]
    offset: Option<u64>,
}

/// Which entries of a list are asked for: all, or with `limit` and `offset` a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    limit: Option<usize>,
    offset: usize,
}

/// Those entries, as they are shown.
pub(super) struct Entries<S> {
    shown: Vec<S>,
    /// How many to leave out for the next ones, where there are more.
    next: Option<usize>,
}

impl Wanted {
    /// What the query says. Content is judged last: ask once the caller may read the list.
    ///
    /// # Errors
    /// 400 for what is no number of entries.
    pub(super) fn read(asked: &Asked) -> Result<Self, Refusal> {
        let number = |name: &str| -> Result<Option<usize>, Refusal> {
            // What is taken is what the description's format has.
            let read = |text: &str| {
                let number = text.parse::<i64>().ok().and_then(|number| usize::try_from(number).ok());
                number.ok_or_else(|| Refusal::input(format!("`{name}` is no number: `{text}`")))
            };
            asked.value(name)?.map(read).transpose()
        };
        let (limit, offset) = (number("limit")?, number("offset")?.unwrap_or(0));
        if limit == Some(0) {
            return Err(Refusal::input("`limit` is 0\nwrite at least 1, or leave it out"));
        }
        Ok(Self { limit, offset })
    }

    /// Those of all, which must be in the same order each time. No other one is shown.
    ///
    /// # Errors
    /// Those of `show`.
    pub(super) fn of<'a, T, S, E>(
        self,
        all: &'a [T],
        show: impl FnMut(&'a T) -> Result<S, E>,
    ) -> Result<Entries<S>, E> {
        let rest = all.get(self.offset..).unwrap_or_default();
        let page = rest.get(..self.limit.unwrap_or(rest.len())).unwrap_or(rest);
        let next = (page.len() < rest.len()).then_some(self.offset + page.len());
        Ok(Entries { shown: page.iter().map(show).collect::<Result<_, E>>()?, next })
    }
}

impl<S> Entries<S> {
    /// The plain list, with `Link` to the next page of the list at this path, with whatever else was asked.
    pub(super) fn answer(self, path: &str, asked: &Asked) -> Response
    where
        S: Serialize,
    {
        self.answer_as(|one| one, path, asked)
    }

    /// The same of entries that are shown as something else.
    pub(super) fn answer_as<'s, T: Serialize>(
        &'s self,
        show: impl Fn(&'s S) -> T,
        path: &str,
        asked: &Asked,
    ) -> Response {
        let mut response = Json(self.shown.iter().map(show).collect::<Vec<T>>()).into_response();
        if let Some(next) = self.next {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in asked.once().filter(|(name, _)| *name != "offset") {
                query.append_pair(name, value);
            }
            query.append_pair("offset", &next.to_string());
            if let Ok(link) = HeaderValue::from_str(&format!("<{path}?{}>; rel=\"next\"", query.finish())) {
                response.headers_mut().insert(LINK, link);
            }
        }
        response
    }
}

/// The entries that are asked for of all, as the answer.
pub(super) fn listed<'a, T, S: Serialize>(
    all: &'a [T],
    shown: impl Fn(&'a T) -> S,
    path: &str,
    asked: &Asked,
) -> Result<Response, Refusal> {
    let Ok(entries) = Wanted::read(asked)?.of(all, |one| Ok::<_, Infallible>(shown(one)));
    Ok(entries.answer(path, asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_page_is_made_and_a_failure_ends_it() {
        let all = [0, 1, 2, 3, 4];
        for (limit, offset, expected, next) in [
            (None, 0, &all[..], None),
            (Some(2), 1, &[1, 2], Some(3)),
            (Some(2), 3, &[3, 4], None),
            (Some(9), 9, &[], None),
            (Some(usize::MAX), usize::MAX, &[], None),
        ] {
            let mut made = Vec::new();
            let Ok(entries) = Wanted { limit, offset }.of(&all, |one| {
                made.push(*one);
                Ok::<_, Infallible>(*one)
            });
            assert_eq!((made.as_slice(), entries.next), (expected, next), "{limit:?} {offset}");
        }
        let mut made = 0;
        let ended = Wanted { limit: None, offset: 0 }.of(&all, |one| {
            made += 1;
            if *one < 2 { Ok(()) } else { Err("too long") }
        });
        assert_eq!((ended.err(), made), (Some("too long"), 3));
    }
}
