//! A call to a service behind a tunnel: the caller's body becomes a message, the service's message becomes an answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use tokio::time::timeout;
use url::Url;

use super::answer::{self, Places};
use super::body::{Passage, ProxyBody, RequestBody, RequestBodyError};
use super::error::{Kind, Problem};
use super::exchange::{Exchange, Ticket};
use super::forward::{Outbound, while_permitted, withdrawn};
use super::gateway::Worker;
use super::limit;
use super::streams::Standing;
use super::target::Target;
use super::template::Buffer;
use super::token::CallersToken;
use crate::upstream::tunnel::{self, Answer, CallError, MESSAGE_BYTES, Request, Tunnel, Unsent, Waiting};

/// Where a service behind a tunnel is, to itself, as far as a `Location` of its tells: the path counts.
const INSIDE: &str = "http://tunnel.invalid";

/// Sends the call by the tunnel and returns the service's answer as the caller gets it.
///
/// # Errors
/// 413 or 400 for a call that makes no message; 502, 503 or 504 where there is no answer.
pub(super) async fn send(
    worker: &Worker,
    tunnel: &Tunnel,
    outbound: Outbound,
    ticket: &Option<Ticket>,
) -> Result<Response<ProxyBody>, Problem> {
    let exchange = match ticket {
        Some(ticket) => ticket.share(),
        None => return Err(Problem::new(&Kind::INTERNAL, "the request was answered already")),
    };
    let (request, standing) = read(&exchange, outbound).await?;
    let standing = Arc::new(standing);
    let start = Instant::now();
    let mut waiting = enter(worker, tunnel, request, &standing)?;
    let timeouts = standing.route.timeouts();
    let longest = [timeouts.first_byte, timeouts.total].into_iter().flatten().min();
    let outcome = while_permitted(&standing, within(longest, &mut waiting)).await;
    exchange.upstream(start.elapsed());
    let answer = outcome?.map_err(|error| problem(error, &standing))?;
    Ok(receive(answer, &exchange, &standing))
}

/// The call as a message, with its body read to the end.
async fn read(exchange: &Rc<Exchange>, outbound: Outbound) -> Result<(Request, Standing), Problem> {
    let Outbound { standing, headers, query, body, version, named, upgrade: _ } = outbound;
    let query = query.as_ref().map(Buffer::bytes).or(standing.target.query().map(str::as_bytes)).unwrap_or_default();
    let params = tunnel::params(query).ok_or_else(|| not_text("the query"))?;
    let passage =
        Rc::new(Passage { exchange: exchange.clone(), route: standing.route.clone(), named, too_large: false.into() });
    let body = RequestBody::new(body, version, passage);
    let idle = standing.route.timeouts().idle;
    let body = while_permitted(&standing, collect(body, idle, exchange)).await??;
    let body = String::from_utf8(body.into()).map_err(|_| not_text("the body"))?;
    let request = Request {
        method: standing.method.clone(),
        path: path(&standing.target),
        headers: tunnel::headers(&headers),
        params,
        body: Some(body).filter(|body| !body.is_empty()),
    };
    Ok((request, standing))
}

/// The caller's whole body, which is no longer than a message may be.
async fn collect(mut body: RequestBody, idle: Option<Duration>, exchange: &Exchange) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    loop {
        let frame = match idle {
            Some(idle) => timeout(idle, body.frame()).await.map_err(|_| {
                Problem::new(&Kind::REQUEST_TIMEOUT, "the body of the request stood still for too long")
            })?,
            None => body.frame().await,
        };
        match frame {
            None => return Ok(whole.freeze()),
            Some(Ok(frame)) => whole.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..])),
            Some(Err(RequestBodyError::TooLarge)) => {
                return Err(limit::too_large(exchange.gateway.settings().body_bytes.unwrap_or_default()));
            }
            Some(Err(_)) => return Err(Problem::new(&Kind::MALFORMED_REQUEST, "the body did not arrive whole")),
        }
        if whole.len() > MESSAGE_BYTES {
            return Err(too_large(None));
        }
    }
}

/// Puts the call into the tunnel's line. What is sent when its turn comes is what may be sent then.
fn enter(worker: &Worker, tunnel: &Tunnel, request: Request, standing: &Arc<Standing>) -> Result<Waiting, Problem> {
    let (gateway, route) = (&standing.gateway, &standing.route);
    let now = Timestamp::now();
    let token = match &standing.who {
        Some(who) => Some(CallersToken::of(gateway, &worker.minted, who, route, now)?),
        None => None,
    };
    let task = tunnel::new_task();
    let size = request.size(&task, token.as_ref().map(CallersToken::text));
    if size > MESSAGE_BYTES {
        return Err(too_large(Some(size)));
    }
    let write = {
        let (task, standing, entered) = (task.clone(), standing.clone(), Instant::now());
        move || {
            if !standing.outlasted(entered.elapsed()) {
                return Err(Unsent::Withdrawn);
            }
            let now = Timestamp::now();
            let token = token.zip(standing.who.as_ref()).map(|(token, who)| {
                let renewed = token.renewed(&standing.gateway, who, &standing.route, now);
                renewed.map_err(|_| Unsent::NoToken)
            });
            let token = token.transpose()?;
            let text = request.text(&task, token.as_ref().map(CallersToken::text));
            if text.len() > MESSAGE_BYTES { Err(Unsent::TooLarge) } else { Ok(text) }
        }
    };
    tunnel.call(task, size, true, Box::new(write)).map_err(|error| problem(error, standing))
}

async fn within(longest: Option<Duration>, waiting: &mut Waiting) -> Result<Answer, CallError> {
    let Some(longest) = longest else { return waiting.answer().await };
    let answer = timeout(longest, waiting.answer()).await;
    answer.unwrap_or_else(|_| {
        waiting.give_up();
        Err(CallError::TimedOut)
    })
}

/// The service's answer, as the caller gets it.
fn receive(answer: Answer, exchange: &Exchange, standing: &Standing) -> Response<ProxyBody> {
    let Answer { status, mut headers, body } = answer;
    answer::pass_headers(&mut headers, exchange.door, &exchange.id);
    rewrite_location(&mut headers, exchange, &standing.target);
    let mut response = Response::new(ProxyBody::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    exchange.answer(status, None);
    exchange.admit_origin(&mut response);
    response
}

fn rewrite_location(headers: &mut HeaderMap, exchange: &Exchange, target: &Target) {
    let base = Url::parse(&format!("{INSIDE}/{}/{}", target.namespace(), target.service()));
    let asked = Url::parse(&format!("{INSIDE}{}", path(target)));
    if let (Ok(base), Ok(asked)) = (base, asked) {
        let outer = exchange.gateway.settings().public_path(exchange.door);
        let prefix = [outer, target.prefix()].concat();
        answer::rewrite_location(headers, &Places { asked: &asked, bases: &[base], prefix: &prefix });
    }
}

/// The path as the service's routes have it: with namespace and service, whichever listener the call came in by.
fn path(target: &Target) -> String {
    ["/", target.namespace(), "/", target.service(), target.remainder()].concat()
}

fn problem(error: CallError, standing: &Standing) -> Problem {
    let label = standing.route.label();
    match error {
        CallError::Busy => {
            let detail = format!("too many calls wait for `{label}` already\ntry again");
            Problem::new(&Kind::BUSY, detail).retry_after(5)
        }
        CallError::Closed => {
            let detail = format!("the tunnel of `{label}` was closed before it answered");
            Problem::new(&Kind::UPSTREAM_CLOSED, detail)
        }
        CallError::TimedOut => {
            Problem::new(&Kind::UPSTREAM_TIMEOUT, format!("the service did not answer in time: `{label}`"))
        }
        CallError::Unsent(Unsent::Withdrawn) => withdrawn(),
        CallError::Unsent(Unsent::TooLarge) => too_large(None),
        CallError::Unsent(Unsent::NoToken) => {
            let detail = "the gateway cannot make the token that the service asks for";
            Problem::new(&Kind::SERVICE_MISCONFIGURED, detail)
        }
    }
}

fn too_large(size: Option<usize>) -> Problem {
    let size = size.map_or_else(|| "more".to_owned(), |size| format!("{size} bytes"));
    let detail = format!(
        "the service is behind a tunnel that takes messages of {MESSAGE_BYTES} bytes, and this call makes one of {size}\n\
         method, path, headers, parameters and body count, written as JSON"
    );
    Problem::new(&Kind::BODY_TOO_LARGE, detail)
}

fn not_text(what: &str) -> Problem {
    let detail = format!("{what} is not UTF-8, and the service is behind a tunnel, which carries text only");
    Problem::new(&Kind::INVALID_INPUT, detail)
}
