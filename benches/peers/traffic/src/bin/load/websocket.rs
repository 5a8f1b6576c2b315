//! Echoes over WebSocket.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::seen::Seen;
use crate::{Failure, Plan};

pub async fn echo(plan: &Plan, caller: usize) -> Seen {
    let mut seen = Seen::default();
    if let Err(error) = echoes(plan, caller, &mut seen).await {
        seen.failed(&error);
    }
    seen
}

async fn echoes(plan: &Plan, caller: usize, seen: &mut Seen) -> Result<(), Failure> {
    let mut request = format!("ws://127.0.0.1:{}{}", plan.options.port, plan.options.path).into_client_request()?;
    let token = &plan.tokens[caller % plan.tokens.len()];
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    let message = Message::binary(vec![b'x'; 64]);
    let mut nth = 0;
    while let Some(due) = plan.due(caller, plan.options.connections, nth).await {
        nth += 1;
        socket.send(message.clone()).await?;
        match socket.next().await {
            Some(Ok(answer)) if answer == message => seen.answered(due.elapsed()),
            other => return Err(format!("no echo: {other:?}").into()),
        }
    }
    socket.close(None).await?;
    Ok(())
}
