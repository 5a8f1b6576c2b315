//! Calls of services, which take the proxy's walk before the router is asked: described here, answered there.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};

use crate::api::error::Refusal;
use crate::proxy::error::{Kind, Problem};

/// Call a service
///
/// The same walk as `/{ns}/{svc}/{rest}` on the proxy listener; HEAD and OPTIONS as well. `rest` may be several segments;
/// the query goes along. An answer with the header `Carta-Gateway` is the gateway's, every other the service's.
#[utoipa::path(method(get, delete), path = "/service/{ns}/{svc}/{rest}", tag = "services", responses(Called))]
pub(in crate::api) async fn call_service() -> Refusal {
    walked()
}

/// Call a service with a body
///
/// The same walk as `/{ns}/{svc}/{rest}` on the proxy listener. `rest` may be several segments; the query goes along. An
/// answer with the header `Carta-Gateway` is the gateway's, every other the service's.
#[utoipa::path(method(post, put, patch), path = "/service/{ns}/{svc}/{rest}", tag = "services",
    request_body(content = Vec<u8>, content_type = "*/*"), responses(Called))]
pub(in crate::api) async fn send_to_service() -> Refusal {
    walked()
}

fn walked() -> Refusal {
    Problem::new(&Kind::INTERNAL, "calls take the proxy's walk").into()
}

/// The service's answer, or the gateway's in its place.
struct Called;

impl IntoResponses for Called {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let own = [
            ("400", "the call cannot be made: its path, or a secret or value that it needs"),
            ("401", "nobody is identified"),
            ("403", "the caller may not make this call"),
            ("404", "there is no such namespace or service"),
            ("413", "the body is larger than `limits.body_bytes`"),
            ("500", "the gateway failed"),
            ("502", "the service cannot be reached, or answers with what is no HTTP"),
            ("503", "the gateway cannot decide for now, or the service's configuration cannot be used"),
            ("504", "the service takes too long"),
        ];
        let any = || ContentBuilder::new().build();
        let refusal = |(status, about): (&str, &str)| {
            let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let answer = ResponseBuilder::new().description(format!("{about}; or the service's own answer"));
            (
                status.to_owned(),
                answer.content("application/problem+json", problem).content("*/*", any()).build().into(),
            )
        };
        let answer = ResponseBuilder::new().description("the service's answer").content("*/*", any()).build();
        own.into_iter().map(refusal).chain([("default".to_owned(), answer.into())]).collect()
    }
}
