//! A gateway and a service in this process, and one caller: what a call costs with the gateway and without it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Failure, histogram, record, row};
use crate::app;
use crate::cli::open::{self, block_on};
use crate::cli::progress::Progress;
use crate::cli::quickstart::backend::Backend;
use crate::cli::quickstart::client::Call;
use crate::cli::quickstart::lines::Places;
use crate::cli::quickstart::setup::{self, SECRET, Setup};

/// Calls before the measured ones.
const WARM_UP: u32 = 200;

/// Measures calls over kept-alive connections, one after the other.
pub(super) fn run(calls: u32, out: &mut dyn Write) -> Result<(), Failure> {
    let folder = Folder::make()?;
    let ports = setup::write_files(&folder.0, &mut io::sink())?;
    let backend = Backend::start(ports.backend)
        .map_err(|error| Failure::Usage(format!("cannot listen at {}: {error}", ports.backend)))?;
    let path = folder.0.join(setup::CONFIG);
    let setup = block_on(Setup::prepare(&path))?;
    let mut config = open::config(&path)?;
    "error".clone_into(&mut config.log.filter);
    config.log.access = false;
    let running = app::start(config)?;
    let places = Places::new(&folder.0, &running, &backend);
    let measured = block_on(async {
        allow(&setup, &places).await?;
        let direct = measure(backend.addr, "/hello", None, calls).await?;
        let through = measure(places.proxy, "/demo/echo/hello", Some(&setup.bob), calls).await?;
        Ok((direct, through))
    });
    running.stop()?;
    let (direct, through) = measured?;
    row(out, "call of the service itself", &direct)?;
    row(out, "call through the gateway, secret in", &through)
}

/// bob's secret and grant.
async fn allow(setup: &Setup, places: &Places) -> Result<(), Failure> {
    let (grant, header) = (Places::grant(setup), format!("secret-{SECRET}"));
    for (target, token, header) in
        [("/secret", &setup.bob, Some((header.as_str(), setup.secret.as_str()))), (grant.as_str(), &setup.alice, None)]
    {
        let answer = Call { method: Method::PUT, to: places.api, target, token: Some(token), header }.send().await?;
        if answer.status != 200 {
            return Err(Failure::Internal(format!("the gateway answered {} {}", answer.status, answer.text)));
        }
    }
    Ok(())
}

async fn measure(to: SocketAddr, target: &str, token: Option<&str>, calls: u32) -> Result<Histogram<u64>, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Internal(format!("a call failed: {error}"));
    let stream = TcpStream::connect(to).await.map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let mut times = histogram()?;
    let (turns, mut progress) = (calls.saturating_add(WARM_UP), Progress::of("calling"));
    for turn in 0..turns {
        if turn.is_multiple_of(64) {
            progress.at(turn, turns);
        }
        let mut request = Request::builder().uri(target).header("host", "bench");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
        let started = Instant::now();
        sender.ready().await.map_err(|error| failed(&error))?;
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        response.collect().await.map_err(|error| failed(&error))?;
        let took = started.elapsed();
        if status != 200 {
            return Err(Failure::Internal(format!("a call was answered with {status}")));
        }
        if turn >= WARM_UP {
            record(&mut times, took);
        }
    }
    Ok(times)
}

/// A folder that goes when the measuring is over.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("carta-gateway-bench-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path)
            .map_err(|error| Failure::Usage(format!("cannot make `{}`: {error}", path.display())))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    // What cannot be removed is in the folder for what is temporary anyway.
    let _ = std::fs::remove_dir_all(path);
}
