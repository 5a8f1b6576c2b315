//! The plainest proxy that pingora makes: every call to one upstream, on one thread.
//!
//!     pingora-plain PORT UPSTREAM-PORT

use async_trait::async_trait;
use pingora_core::prelude::*;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Plain(u16);

#[async_trait]
impl ProxyHttp for Plain {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(("127.0.0.1", self.0), false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        upstream: &mut pingora_http::RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        // The services behind the others see the path without the service's name.
        let path = upstream.uri.path().trim_start_matches("/bench/echo").to_owned();
        upstream.set_raw_path(path.as_bytes())
    }
}

fn main() {
    let ports: Vec<u16> = std::env::args().skip(1).map(|port| port.parse().expect("a port")).collect();
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 256, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Plain(ports[1]));
    service.add_tcp(&format!("127.0.0.1:{}", ports[0]));
    server.add_service(service);
    server.run_forever();
}
