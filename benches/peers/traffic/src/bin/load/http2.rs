//! Calls over HTTP/2, several at once on a connection.

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::seen::Seen;
use crate::wire::connect;
use crate::{Failure, Plan};

pub async fn call(plan: &std::sync::Arc<Plan>, caller: usize, connector: Option<TlsConnector>) -> Seen {
    let mut seen = Seen::default();
    let opened = async {
        let wire = connect(plan.options.port, connector.as_ref()).await?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .handshake::<_, Bytes>(wire)
            .await?;
        tokio::spawn(async move { connection.await.ok() });
        Ok::<_, Failure>(send)
    };
    let send = match opened.await {
        Ok(send) => send,
        Err(error) => {
            seen.failed(&error);
            return seen;
        }
    };
    let mut streams = JoinSet::new();
    for stream in 0..plan.options.streams {
        let (plan, send) = (plan.clone(), send.clone());
        streams.spawn(async move { keep(&plan, caller * plan.options.streams + stream, send).await });
    }
    while let Some(Ok(one)) = streams.join_next().await {
        seen.add(&one);
    }
    seen
}

async fn keep(plan: &Plan, caller: usize, mut send: SendRequest<Bytes>) -> Seen {
    let mut seen = Seen::default();
    let callers = plan.options.connections * plan.options.streams;
    let mut nth = 0;
    while !seen.hopeless() {
        let Some(due) = plan.due(caller, callers, nth).await else { break };
        let token = &plan.tokens[(caller + usize::try_from(nth).unwrap_or(0) * callers) % plan.tokens.len()];
        nth += 1;
        match exchange(plan, &mut send, token).await {
            Ok(()) => seen.answered(Instant::now() - due),
            Err(error) => seen.failed(&error),
        }
    }
    seen
}

async fn exchange(plan: &Plan, send: &mut SendRequest<Bytes>, token: &str) -> Result<(), Failure> {
    let scheme = if plan.options.ca.is_some() { "https" } else { "http" };
    let request = http::Request::get(format!("{scheme}://localhost{}", plan.options.path))
        .header("authorization", format!("Bearer {token}"))
        .body(())?;
    std::future::poll_fn(|cx| send.poll_ready(cx)).await?;
    let (answer, _) = send.send_request(request, true)?;
    let answer = answer.await?;
    if answer.status() != 200 {
        return Err(format!("status {}", answer.status()).into());
    }
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    Ok(())
}
