//! The walk of a request, and every step of it.
//!
//! [`walk`] is the whole of it: no layer elsewhere changes a request or an answer. It runs on one thread, reads one
//! immutable [`State`], a newer one after each wait, and takes no lock but its own thread's record.

mod admit;
pub mod alias;
pub mod answer;
pub mod authorize;
pub mod body;
pub mod consent;
pub mod cors;
pub mod error;
pub mod exchange;
pub mod forward;
pub mod gateway;
pub mod headers;
pub mod inject;
pub mod limit;
pub mod names;
mod prefer;
mod progress;
pub mod record;
pub mod route;
pub mod scope;
pub mod streams;
pub mod target;
pub mod tasks;
pub mod template;
pub mod token;
mod tunnelled;
mod upgrade;
pub mod why;

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use admit::{Next, admit};
use body::ProxyBody;
use error::{Kind, Problem};
use exchange::{Exchange, Ticket};

pub use consent::{FirstConsent, FirstUse, SecretUse, Unnoted};
pub use gateway::{Gateway, Peer, Settings, Shared, State, Worker};
pub use route::{Route, Routes};
pub use target::{Door, Target};

pub use crate::upstream::tunnel::{Ending, TooMany};

/// Takes a request to its answer. Never fails: a problem becomes the answer that tells of it.
pub fn walk(
    gateway: &Arc<Gateway>,
    worker: &Rc<Worker>,
    request: Request<Incoming>,
    peer: Peer,
    door: Door,
) -> impl Future<Output = Response<ProxyBody>> + use<> {
    let ticket = Exchange::begin(gateway, &worker.record, &request, peer, door);
    let worker = worker.clone();
    async move {
        // Now, not before: hyper may have handed the request over long ago, and asked for no answer while the caller did not
        // take the last one.
        let admitted = admit(&worker, &ticket.share(), request);
        let mut ticket = Some(ticket);
        let outcome = match admitted {
            Ok(next) => steps(&worker, next, &mut ticket).await,
            Err(problem) => Err(problem),
        };
        match (outcome, ticket) {
            (Ok(answer), Some(ticket)) => answer.map(|body| body.with_ticket(ticket)),
            (Ok(answer), None) => answer,
            (Err(problem), Some(ticket)) => ticket.refuse(problem),
            (Err(problem), None) => problem.into_response(""),
        }
    }
}

async fn steps(worker: &Rc<Worker>, next: Next, ticket: &mut Option<Ticket>) -> Result<Response<ProxyBody>, Problem> {
    let next = match next {
        Next::Later(mut later) => {
            let exchange = ticket.as_ref().map(Ticket::share).ok_or_else(answered)?;
            // Boxed, as all that few calls need: the others should have no room for it.
            Box::pin(async move { later.admit(worker, &exchange).await }).await?
        }
        next => next,
    };
    match next {
        Next::Answer(answer) => Ok(*answer),
        Next::Tunnel(tunnel, outbound) => Box::pin(tunnelled::send(worker, &tunnel, *outbound, ticket)).await,
        Next::Forward(mut outbound) => {
            let answer = forward::send(worker, &mut outbound, ticket).await;
            worker.heads.give_back(outbound.head);
            answer
        }
        Next::Later(_) => Err(Problem::new(&Kind::INTERNAL, "the request waits for nothing")),
    }
}

fn answered() -> Problem {
    Problem::new(&Kind::INTERNAL, "the request was answered already")
}
