//! `/docs`: the description as a page to read and to try. All of it comes from here: Swagger UI is in the binary.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderName, HeaderValue};

use crate::api::error::Refusal;
use crate::api::extract::Named;

/// Nothing but what this origin serves, nothing inline but images, and no frame around it. Swagger UI sets styles by
/// script, which needs no leave.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>carta-gateway: the REST API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<noscript>This page needs JavaScript. What it shows is <a href="/openapi.json">/openapi.json</a>.</noscript>
<div id="description"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

/// A token that was typed in is gone with the page. No validator is asked: it would be somebody else's.
const START: &str = r##"SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#description",
  deepLinking: true,
  validatorUrl: null,
  persistAuthorization: false,
  queryConfigEnabled: false,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  filter: true,
});
"##;

/// A page to read and try the API
///
/// Swagger UI, from the gateway itself; no other host is asked for anything.
#[utoipa::path(get, path = "/docs", tag = "gateway", security(()),
    responses((status = 200, description = "the page", body = String, content_type = "text/html")))]
pub(in crate::api) async fn page() -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, PAGE).into_response()
}

/// A file of that page
///
/// Its scripts and styles.
#[utoipa::path(get, path = "/docs/{file}", tag = "gateway", security(()),
    responses(
        (status = 200, description = "the file", content((String = "text/javascript"), (String = "text/css"))),
        (status = 404, description = "another file"),
    ))]
pub(in crate::api) async fn file(Named(name): Named<String>) -> Result<Response, Refusal> {
    Ok(match name.as_str() {
        "start.js" => ([(CONTENT_TYPE, SCRIPT)], START).into_response(),
        "swagger-ui-bundle.js" => packed(SCRIPT, include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"))),
        "swagger-ui.css" => packed(STYLE, include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"))),
        _ => return Err(Refusal::unknown("file", &name)),
    })
}

const SCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const STYLE: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");

/// A file that is kept compressed and sent so to everybody: whoever shows the page takes gzip.
fn packed(kind: HeaderValue, file: &'static [u8]) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_TYPE, kind),
        (CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
    ];
    (headers, Bytes::from_static(file)).into_response()
}
