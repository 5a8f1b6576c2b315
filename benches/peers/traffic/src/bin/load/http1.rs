//! Calls over HTTP/1.1.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::seen::Seen;
use crate::wire::{Stream, connect};
use crate::{Failure, Plan};

/// How many tokens a caller has: the callers share them all out, as users do.
fn token(plan: &Plan, caller: usize, nth: u64) -> usize {
    caller + usize::try_from(nth).unwrap_or(0) * plan.options.connections
}

/// Call after call over one connection, which is made anew when it fails.
pub async fn keep(plan: &Plan, caller: usize, connector: Option<TlsConnector>) -> Seen {
    let mut seen = Seen::default();
    // Made before the clock runs: building them is no part of a call.
    let requests = requests(plan, caller);
    let mut nth = 0;
    while !seen.hopeless() {
        let mut wire = match connect(plan.options.port, connector.as_ref()).await {
            Ok(wire) => wire,
            Err(error) => {
                seen.failed(&error);
                continue;
            }
        };
        let mut received = Vec::with_capacity(128 * 1024);
        loop {
            let Some(due) = plan.due(caller, plan.options.connections, nth).await else { return seen };
            let request = &requests[usize::try_from(nth).unwrap_or(0) % requests.len()];
            nth += 1;
            match exchange(&mut wire, request, &mut received).await {
                Ok(()) => seen.answered(due.elapsed()),
                Err(error) => {
                    seen.failed(&error);
                    break;
                }
            }
        }
    }
    seen
}

/// A connection for each call.
pub async fn close(plan: &Plan, caller: usize, connector: Option<TlsConnector>) -> Seen {
    let mut seen = Seen::default();
    let requests = requests(plan, caller);
    let mut nth = 0;
    let mut received = Vec::with_capacity(64 * 1024);
    while !seen.hopeless() {
        let Some(due) = plan.due(caller, plan.options.connections, nth).await else { break };
        let request = &requests[usize::try_from(nth).unwrap_or(0) % requests.len()];
        nth += 1;
        received.clear();
        let call = async {
            let mut wire = connect(plan.options.port, connector.as_ref()).await?;
            exchange(&mut wire, request, &mut received).await
        };
        match call.await {
            Ok(()) => seen.answered(due.elapsed()),
            Err(error) => seen.failed(&error),
        }
    }
    seen
}

fn requests(plan: &Plan, caller: usize) -> Vec<Vec<u8>> {
    let turns = plan.tokens.len().div_ceil(plan.options.connections);
    (0..turns as u64).map(|nth| plan.request(token(plan, caller, nth))).collect()
}

/// One call, whose answer must be a 200 with a length.
pub async fn exchange(wire: &mut Box<dyn Stream>, request: &[u8], received: &mut Vec<u8>) -> Result<(), Failure> {
    wire.write_all(request).await?;
    let (head, length) = loop {
        if wire.read_buf(received).await? == 0 {
            return Err("the connection ended before an answer".into());
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(head) = answer.parse(received)? {
            if answer.code != Some(200) {
                return Err(format!("status {:?}: {}", answer.code, String::from_utf8_lossy(received)).into());
            }
            let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = length.ok_or("an answer without a length")?;
            break (head, std::str::from_utf8(length.value)?.parse::<usize>()?);
        }
    };
    let mut left = (head + length).checked_sub(received.len()).ok_or("more than the answer")?;
    received.clear();
    while left > 0 {
        let read = wire.read_buf(received).await?;
        if read == 0 {
            return Err("half an answer".into());
        }
        left = left.checked_sub(read).ok_or("more than the answer")?;
        received.clear();
    }
    Ok(())
}
