//! Which addresses are connected to.

use super::*;

#[test]
fn own_listeners_and_link_local_addresses_are_no_targets() {
    on_a_worker(async {
        let own: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        for (url, reason) in [
            ("http://127.0.0.1:8080/", TargetRefused::Own),
            ("http://localhost:8080/", TargetRefused::Own),
            ("http://169.254.169.254/", TargetRefused::LinkLocal),
            ("http://[::ffff:169.254.169.254]/", TargetRefused::LinkLocal),
            ("http://0.0.0.0/", TargetRefused::Nowhere),
        ] {
            let service = service(&[url.to_owned()], timeouts(), Protocol::Auto);
            let upstream =
                Upstream::new(&service, guard(&[own, "[::1]:8080".parse().unwrap()]), &Roots::native()).unwrap();
            let client = Client { pools: Pools::new(), upstream };
            let error = client.send(get("/?key=canary")).await.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), SendErrorKind::Refused(reason), "{url}");
            assert!(!format!("{error} {error:?}").contains("canary"));
            assert!(error.into_unsent().is_some(), "nothing of it reached anybody");
        }
    });
}

#[test]
fn a_registered_service_is_judged_at_every_connect() {
    let fake = Fake::start();
    let mut service = service(&[format!("http://{}/", fake.addr)], timeouts(), Protocol::Auto);
    service.trusted = false;
    on_a_worker(async {
        let upstream = Upstream::new(&service, guard(&[]), &Roots::native()).unwrap();
        let client = Client { pools: Pools::new(), upstream };
        assert_eq!(client.fail(get("/")).await, SendErrorKind::Refused(TargetRefused::Loopback));
        assert!(fake.nobody());
    });
    service.endpoints = vec![Endpoint { url: "http://other.test/".parse().unwrap(), weight: 1 }];
    let error = Upstream::new(&service, guard(&[]), &Roots::native()).unwrap_err().to_string();
    assert!(error.starts_with("the host `other.test` is refused: "), "{error}");
}

#[test]
fn an_endpoint_that_takes_no_connections_is_passed_over() {
    // Bound and not listening: nobody else gets the port.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let closed_addr = closed.local_addr().unwrap().as_socket().unwrap();
    let play = Fake::start().play(move |fake| {
        let mut connection = fake.next();
        for _ in 0..50 {
            connection.head();
            connection.say(OK);
        }
        connection
    });
    on_a_worker(async {
        let client = Client::of(&service(
            &[format!("http://{closed_addr}/"), format!("http://{}/", play.addr)],
            timeouts(),
            Protocol::Auto,
        ));
        let (mut failed, mut served) = (0, 0);
        while served < 50 {
            match client.send(get("/")).await {
                Ok(response) => {
                    text(response).await.unwrap();
                    client.idle(1).await;
                    served += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), SendErrorKind::Connect);
                    assert!(error.is_unsent());
                    failed += 1;
                }
            }
        }
        assert!(failed <= 2, "{failed} calls went to the closed endpoint");
    });
    play.end();
}
