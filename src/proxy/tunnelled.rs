//! A call to a service behind a tunnel: the caller's body becomes a message, the service's message becomes an answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::SET_COOKIE;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;
use url::Url;

use super::answer::{self, Places};
use super::body::{Passage, ProxyBody, RequestBody, RequestBodyError};
use super::error::{Kind, Problem, X_REQUEST_ID};
use super::exchange::{Exchange, Ticket};
use super::forward::{Outbound, while_permitted, withdrawn};
use super::gateway::{Gateway, Worker};
use super::limit;
use super::prefer;
use super::progress;
use super::streams::Standing;
use super::target::{Door, Target};
use super::tasks::{Remembered, Slot};
use super::token::CallersToken;
use crate::telemetry::RequestId;
use crate::upstream::tunnel::{self, Answer, CallError, MESSAGE_BYTES, Request, Tunnel, Unsent, Waiting};
use crate::wiped::Buffer;

/// Where a service behind a tunnel is, to itself, as far as a `Location` of its tells: the path counts.
const INSIDE: &str = "http://tunnel.invalid";

/// How long a task may take whose service says nothing of it.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Sends the call by the tunnel and returns the service's answer as the caller gets it: at once or, on the API's
/// `/service/…`, as a task to ask for, unless the caller prefers to wait.
///
/// # Errors
/// 413 or 400 for a call that makes no message; 429 for too many tasks; 502, 503 or 504 where there is no answer.
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
    let headers = outbound.head.lines.to_map();
    let (door, prefers) = (exchange.door, prefer::wait(&headers));
    // Who waits for the answer is waited for from now on, and not only when the whole body has come.
    let held = (door == Door::Proxy || prefers.is_some()).then(|| tunnel.hold());
    let (request, standing) = read(&exchange, outbound, &headers).await?;
    let call = Call { standing, id: tunnel::new_task(), start: Instant::now() };
    match (door, &call.standing.who) {
        (Door::Api, Some(who)) => {
            let whose = (who.account.id, call.standing.route.id());
            let slot = exchange.gateway.tasks().begin(call.id.clone(), whose, call.standing.clone())?;
            let waiting = enter(worker, tunnel, request, &call, held)?;
            call.into_task(&exchange, slot, waiting, prefers).await
        }
        // Nobody could ask for what nobody called.
        (Door::Proxy, _) | (Door::Api, None) => {
            let mut waiting = enter(worker, tunnel, request, &call, held)?;
            let outcome = call.outcome(call.patience(), &mut waiting).await;
            exchange.upstream(call.start);
            Ok(receive(outcome?, &exchange, &call.standing))
        }
    }
}

impl Remembered for Standing {
    fn size(&self) -> usize {
        self.target.path().len() + self.target.query().map_or(0, str::len)
    }
}

/// A call on its way.
struct Call {
    standing: Arc<Standing>,
    id: Arc<str>,
    start: Instant,
}

impl Call {
    /// How long a caller waits who waits for the answer.
    fn patience(&self) -> Option<Duration> {
        let timeouts = self.standing.route.timeouts();
        [timeouts.first_byte, timeouts.total].into_iter().flatten().min()
    }

    /// The answer, or what came instead of it.
    async fn outcome(&self, longest: Option<Duration>, waiting: &mut Waiting) -> Result<Answer, Problem> {
        let outcome = while_permitted(&self.standing, within(longest, waiting)).await?;
        outcome.map_err(|error| {
            if error == CallError::TimedOut {
                waiting.give_up();
            }
            problem(error, &self.standing)
        })
    }

    /// The answer, if it comes while the caller prefers to wait; else the task by which to ask for it.
    async fn into_task(
        self,
        exchange: &Exchange,
        slot: Slot<Standing>,
        mut waiting: Waiting,
        prefers: Option<Duration>,
    ) -> Result<Response<ProxyBody>, Problem> {
        if let Some(longest) = prefers {
            let outcome = while_permitted(&self.standing, within(Some(longest), &mut waiting)).await?;
            if !matches!(outcome, Err(CallError::TimedOut)) {
                exchange.upstream(self.start);
                let answer = outcome.map_err(|error| problem(error, &self.standing))?;
                return Ok(applied(receive(answer, exchange, &self.standing), prefers));
            }
            waiting.let_go();
        }
        let answer = progress::begun(&self.id);
        tokio::spawn(self.finish(slot, waiting));
        let mut answer = exchange.own(applied(answer, prefers));
        exchange.admit_origin(&mut answer);
        Ok(answer)
    }

    /// Waits for the answer as long as the service may take, and keeps it for the caller who asks.
    async fn finish(self, slot: Slot<Standing>, mut waiting: Waiting) {
        let (gateway, longest) =
            (self.standing.gateway.clone(), self.standing.route.timeouts().total.unwrap_or(LONGEST));
        let outcome = self.outcome(Some(longest), &mut waiting).await;
        drop(waiting);
        let answer = match outcome {
            Ok(Answer { status, mut headers, body }) => {
                // As the API's listener passes an answer on, but for what is said of this very answer.
                answer::pass_headers(&mut headers, Door::Proxy, &RequestId::mint());
                rewrite_location(&mut headers, &gateway, Door::Api, &self.standing.target);
                headers.remove(X_REQUEST_ID);
                headers.remove(SET_COOKIE);
                let mut answer = Response::new(body);
                *answer.status_mut() = status;
                *answer.headers_mut() = headers;
                answer
            }
            Err(problem) => problem.into_response(&self.id),
        };
        if slot.finish(answer, Instant::now()) {
            tokio::spawn(sweep(gateway));
        }
    }
}

/// Forgets each answer when its time is over, until there is none.
async fn sweep(gateway: Arc<Gateway>) {
    while let Some(next) = gateway.tasks().sweep(Instant::now()) {
        tokio::time::sleep_until(next.into()).await;
    }
}

/// Says that the caller's wish to wait was granted, where there was one.
fn applied(mut answer: Response<ProxyBody>, prefers: Option<Duration>) -> Response<ProxyBody> {
    if let Some(wait) = prefers {
        answer.headers_mut().insert(prefer::PREFERENCE_APPLIED, prefer::applied(wait));
    }
    answer
}

/// The call as a message, with its body read to the end.
async fn read(
    exchange: &Rc<Exchange>,
    outbound: Outbound,
    headers: &HeaderMap,
) -> Result<(Request, Arc<Standing>), Problem> {
    let Outbound { standing, head: _, query, body, version, named, upgrade: _ } = outbound;
    let body = body.ok_or_else(|| Problem::new(&Kind::INTERNAL, "the request was sent already"))?;
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
        headers: tunnel::headers(headers),
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
fn enter(
    worker: &Worker,
    tunnel: &Tunnel,
    request: Request,
    call: &Call,
    held: Option<TaskTrackerToken>,
) -> Result<Waiting, Problem> {
    let (standing, task) = (&call.standing, call.id.clone());
    let (gateway, route) = (&standing.gateway, &standing.route);
    let now = Timestamp::now();
    let token = match &standing.who {
        Some(who) => Some(CallersToken::of(gateway, &worker.minted, who, route, now)?),
        None => None,
    };
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
    tunnel.call(task, size, held, Box::new(write)).map_err(|error| problem(error, standing))
}

async fn within(longest: Option<Duration>, waiting: &mut Waiting) -> Result<Answer, CallError> {
    match longest {
        Some(longest) => timeout(longest, waiting.answer()).await.unwrap_or(Err(CallError::TimedOut)),
        None => waiting.answer().await,
    }
}

/// The service's answer, as the caller gets it.
fn receive(answer: Answer, exchange: &Exchange, standing: &Standing) -> Response<ProxyBody> {
    let Answer { status, mut headers, body } = answer;
    answer::pass_headers(&mut headers, exchange.door, &exchange.id);
    rewrite_location(&mut headers, &exchange.gateway, exchange.door, &standing.target);
    let mut response = Response::new(ProxyBody::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    exchange.answer(status, None);
    exchange.admit_origin(&mut response);
    response
}

fn rewrite_location(headers: &mut HeaderMap, gateway: &Gateway, door: Door, target: &Target) {
    let base = Url::parse(&format!("{INSIDE}/{}/{}", target.namespace(), target.service()));
    let asked = Url::parse(&format!("{INSIDE}{}", path(target)));
    if let (Ok(base), Ok(asked)) = (base, asked) {
        let outer = gateway.settings().public_path(door);
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
