//! Lists in pages (`docs/API.md` §1).

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
#[expect(dead_code, reason = "it describes what `listed` reads")]
pub(super) struct Page {
    /// The most entries of the answer; where there are more, `Link` has the next page.
    #[param(nullable = false, minimum = 1)]
    limit: Option<u64>,
    /// How many entries to leave out.
    #[param(nullable = false, minimum = 0)]
    offset: Option<u64>,
}

/// The entries as a plain list: all, or with `limit` and `offset` a page, whose `Link` names the next one at this path,
/// with whatever else was asked. Their order must be the same each time.
pub(super) fn listed<'a, T, S: Serialize>(
    all: &'a [T],
    shown: impl Fn(&'a T) -> S,
    path: &str,
    asked: &Asked,
) -> Result<Response, Refusal> {
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
    let rest = all.get(offset..).unwrap_or_default();
    let page = rest.get(..limit.unwrap_or(rest.len())).unwrap_or(rest);
    let list: Vec<S> = page.iter().map(shown).collect();
    let mut response = Json(list).into_response();
    if page.len() < rest.len() {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in asked.once().filter(|(name, _)| *name != "offset") {
            query.append_pair(name, value);
        }
        query.append_pair("offset", &(offset + page.len()).to_string());
        if let Ok(link) = HeaderValue::from_str(&format!("<{path}?{}>; rel=\"next\"", query.finish())) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}
