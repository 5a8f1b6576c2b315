//! Which protocol is agreed on, and who trusts whom.

use super::*;

#[test]
fn the_protocol_is_agreed_on_by_alpn_unless_it_is_set() {
    let authority = authority("localhost");
    on_a_worker(async {
        for (protocol, offered, version) in [
            (Protocol::Auto, &["h2", "http/1.1"][..], Version::HTTP_2),
            (Protocol::Auto, &["http/1.1"], Version::HTTP_11),
            (Protocol::Auto, &[], Version::HTTP_11),
            (Protocol::Http1, &["h2", "http/1.1"], Version::HTTP_11),
            (Protocol::Http2, &["h2", "http/1.1"], Version::HTTP_2),
        ] {
            let (addr, seen) = start(Some(server(&authority, offered, None)), false).await;
            let client = Client::new(&format!("https://localhost:{}/", addr.port()), trust(&authority, protocol));
            assert_eq!(client.echo("hello").await, "hello");
            assert_eq!(seen.requests.borrow()[0].version, version, "{protocol:?} {offered:?}");
        }
        let (addr, _) = start(Some(server(&authority, &["http/1.1"], None)), false).await;
        let client = Client::new(&format!("https://localhost:{}/", addr.port()), trust(&authority, Protocol::Http2));
        assert_eq!(client.fail().await, SendErrorKind::Tls);
    });
}

#[test]
fn a_server_that_is_not_trusted_gets_no_request() {
    let (right, wrong) = (authority("localhost"), authority("localhost"));
    let elsewhere = authority("elsewhere.test");
    on_a_worker(async {
        let (addr, seen) = start(Some(server(&right, &[], None)), false).await;
        let url = format!("https://localhost:{}/", addr.port());
        assert_eq!(Client::new(&url, trust(&wrong, Protocol::Auto)).fail().await, SendErrorKind::Tls);

        let (addr, other) = start(Some(server(&elsewhere, &[], None)), false).await;
        let url = format!("https://localhost:{}/", addr.port());
        assert_eq!(Client::new(&url, trust(&elsewhere, Protocol::Auto)).fail().await, SendErrorKind::Tls, "by name");
        assert!(seen.requests.borrow().is_empty() && other.requests.borrow().is_empty());

        let (addr, _) = start(None, false).await;
        let url = format!("https://localhost:{}/", addr.port());
        assert_eq!(Client::new(&url, trust(&right, Protocol::Auto)).fail().await, SendErrorKind::Tls, "no TLS at all");
    });
}

#[test]
fn the_gateway_proves_itself_with_its_client_certificate() {
    let authority = authority("localhost");
    let key = KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["gateway.test".to_owned()]).unwrap();
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let chain = parameters.self_signed(&key).unwrap().pem().into_bytes();
    on_a_worker(async {
        let (addr, _) = start(Some(server(&authority, &["h2"], Some(&chain))), false).await;
        let url = format!("https://localhost:{}/", addr.port());
        let mut tls = trust(&authority, Protocol::Auto);
        assert!(Client::new(&url, tls.clone()).send(Request::get("/").body(empty()).unwrap()).await.is_err());
        tls.identity = Some((chain.clone(), Hidden::new(key.serialize_pem())));
        assert_eq!(Client::new(&url, tls).echo("hello").await, "hello");
    });
}

#[test]
fn an_upgrade_goes_over_http_1_even_where_http_2_is_preferred() {
    let authority = authority("localhost");
    on_a_worker(async {
        let (addr, seen) = start(Some(server(&authority, &["h2", "http/1.1"], None)), false).await;
        let url = format!("https://localhost:{}/", addr.port());
        let client = Client::new(&url, trust(&authority, Protocol::Auto));
        client.echo("hello").await;
        let request =
            || Request::get("/").header("connection", "upgrade").header("upgrade", "echo").body(empty()).unwrap();
        client.send(request()).await.unwrap();
        assert_eq!(seen.requests.borrow().last().unwrap().version, Version::HTTP_11);
        client.echo("hello").await;
        assert_eq!(seen.requests.borrow().last().unwrap().version, Version::HTTP_2);
        assert_eq!(seen.connections.get(), 2);

        let strict = Client::new(&url, trust(&authority, Protocol::Http2));
        let error = strict.send(request()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::NoUpgrade);
    });
}
