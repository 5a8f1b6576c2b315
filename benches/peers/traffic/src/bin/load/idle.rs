//! Connections that do nothing.

use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::{Failure, Options, Plan, http1, wire};

/// Opens the connections, calls once over each, says `open`, and holds them until standard input ends.
pub async fn hold(options: Options, tokens: Vec<String>) -> Result<(), Failure> {
    let connector = wire::connector(options.ca.as_deref(), false)?;
    let (begin, connections) = (Instant::now(), options.connections);
    let plan = Plan { options, tokens, begin, end: begin };
    let mut held = Vec::with_capacity(connections);
    let mut received = Vec::new();
    for caller in 0..connections {
        let mut wire = wire::connect(plan.options.port, connector.as_ref()).await?;
        received.clear();
        http1::exchange(&mut wire, &plan.request(caller), &mut received).await?;
        held.push(wire);
    }
    println!("open");
    tokio::io::stdin().read_to_end(&mut received).await?;
    Ok(())
}
