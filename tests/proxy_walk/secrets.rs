//! What is put on a request: secrets with their consents, and tokens.

use super::*;

#[test]
fn a_secret_goes_where_its_user_consented_and_the_first_use_of_a_service_of_the_file_is_the_consent() {
    let upstream = Upstream::fixed("answer");
    let house = start(&upstream, json!({"inject": {"headers": {"X-Key": "{secret:key}"}}}));
    let token = house.token(ALICE);
    let status = || call(&house, "GET", "/materials/mp/x").token(&token).send();
    assert_eq!(status().problem(), Some("missing-secret"));
    house.secret(ALICE, "key", "s3cr3t");
    assert_eq!(status().problem(), Some("secret-consent"));
    assert!(status().text().contains("https://api.gw.example.org/secret/key/consent?service=materials/mp"));
    assert_eq!(upstream.received().len(), 0);
    house.consent(ALICE);
    assert_eq!(status().status(), 200);
    assert_eq!(upstream.only().header("x-key"), Some("s3cr3t"));
    house.service(
        MP,
        "materials",
        "mp",
        &table(&upstream, json!({"inject": {"headers": {"X-Other": "{secret:key}"}}})),
        false,
    );
    assert_eq!(status().problem(), Some("secret-consent"), "another template needs it anew");
    house.service(
        MP,
        "materials",
        "mp",
        &table(&upstream, json!({"inject": {"headers": {"X-Other": "{secret:key}"}}})),
        true,
    );
    assert_eq!(status().problem(), Some("secret-consent"), "of a service of the file too");
    assert!(house.first_uses.noted.lock().unwrap().is_empty());
    house.consent(ALICE);
    assert_eq!(status().status(), 200);
    house.secret(BOB, "key", "s3cr3t");
    house.policy([Change::Grant(Grant {
        subject: Subject::User(BOB),
        pattern: Pattern::parse("materials.mp").unwrap(),
        levels: Levels::EXECUTE,
        expires: None,
    })]);
    call(&house, "GET", "/materials/mp/x").token(&house.token(BOB)).expect(200);
    assert_eq!(house.first_uses.noted.lock().unwrap().len(), 1, "the very first use is the consent");
}

#[test]
fn what_was_withdrawn_deleted_or_replaced_while_a_first_use_was_noted_counts() {
    let upstream = Upstream::fixed("answer");
    let house = std::sync::Arc::new(start(&upstream, json!({})));
    let headers = json!({"inject": {"headers": {"X-First": "{secret:first}", "X-Known": "{secret:known}"}}});
    let with_both = |trusted| house.service(MP, "materials", "mp", &table(&upstream, headers.clone()), trusted);
    with_both(true);
    let token = house.token(ALICE);
    house.secret(ALICE, "first", "f1rst");
    let consent = |name: &str| house.consent_to(ALICE, name);
    let (first, known) = (consent("first"), consent("known"));
    let unsay =
        |consent: &Consent| Item::Gone(Key::Consent(ALICE, consent.secret.clone(), consent.fingerprint.clone()));
    let withdrawal = Withdrawal { user: ALICE, secret: "known".into(), service: MP, at: Timestamp::now() };
    let meanwhile = |change: Box<dyn FnOnce(&House) + Send>| {
        house.secret(ALICE, "known", "kn0wn");
        house.secrets(&[unsay(&first), Item::Consent(known.clone())]);
        let inner = house.clone();
        *house.first_uses.meanwhile.lock().unwrap() = Some(Box::new(move || change(&inner)));
        let answer = call(&house, "GET", "/materials/mp/x").token(&token).send();
        assert!(house.first_uses.meanwhile.lock().unwrap().is_none(), "nothing was waited for");
        answer.problem().map(str::to_owned)
    };

    let withdrawn = vec![unsay(&known), Item::Withdrawal(withdrawal)];
    assert_eq!(meanwhile(Box::new(move |house| house.secrets(&withdrawn))).as_deref(), Some("secret-consent"));
    let again = Item::Gone(Key::Withdrawal(ALICE, "known".into(), MP));
    house.secrets(&[again]);
    let deleted = vec![Item::Gone(Key::Secret(ALICE, "known".into()))];
    assert_eq!(meanwhile(Box::new(move |house| house.secrets(&deleted))).as_deref(), Some("missing-secret"));
    assert!(upstream.received().is_empty(), "what was withdrawn or deleted was sent");
    assert_eq!(meanwhile(Box::new(|house| house.secret(ALICE, "known", "n3w"))), None);
    assert_eq!(upstream.only().header("x-known"), Some("n3w"));
}

/// hyper may hold a request back that it handed over, for as long as the caller does not take the answer before.
#[test]
fn what_was_withdrawn_after_a_request_was_handed_over_and_before_it_went_counts() {
    let upstream = Upstream::fixed("answer");
    let house = std::sync::Arc::new(start(&upstream, json!({"inject": {"headers": {"X-Key": "{secret:key}"}}})));
    let token = house.token(ALICE);
    house.secret(ALICE, "key", "s3cr3t");
    house.consent(ALICE);
    call(&house, "GET", "/materials/mp/x").token(&token).expect(200);
    upstream.forget();
    let meanwhile = |change: Box<dyn FnOnce(&House) + Send>| {
        let inner = house.clone();
        *house.handed.lock().unwrap() = Some(Box::new(move || change(&inner)));
        let answer = call(&house, "GET", "/materials/mp/x").token(&token).send();
        assert!(house.handed.lock().unwrap().is_none(), "nothing was handed over");
        (answer.status(), answer.problem().map(str::to_owned))
    };

    assert_eq!(meanwhile(Box::new(|house| house.secret(ALICE, "key", "n3w"))), (200, None));
    assert_eq!(upstream.only().header("x-key"), Some("n3w"));
    upstream.forget();
    let consent = house.consent_to(ALICE, "key");
    let unsay = Item::Gone(Key::Consent(ALICE, consent.secret.clone(), consent.fingerprint.clone()));
    let unsaid = meanwhile(Box::new(move |house| house.secrets(&[unsay])));
    assert_eq!(unsaid, (400, Some("secret-consent".to_owned())));
    house.secrets(&[Item::Consent(consent)]);
    let refused = meanwhile(Box::new(|house| house.policy([alices(Levels::NONE)])));
    assert_eq!(refused, (403, Some("permission-denied".to_owned())));
    house.policy([alices(Levels::EXECUTE)]);
    assert_eq!(meanwhile(Box::new(|house| house.disable("alice"))).0, 401);
    assert!(upstream.received().is_empty(), "what was withdrawn was used");
}

#[test]
fn a_service_that_asks_for_it_gets_a_token_that_is_good_for_no_call() {
    let upstream = Upstream::fixed("answer");
    let house = start(&upstream, json!({"forward_token": true}));
    let token = house.token(ALICE);
    let ask = || call(&house, "GET", "/materials/mp/x").token(&token).header("X-Carta-Token", "Bearer spoofed");
    ask().expect(200);
    let minted = upstream.only().header("x_carta_token").unwrap().to_owned();
    let bare = minted.strip_prefix("Bearer ").unwrap();
    assert!(bare != token && !upstream.only().text().contains("spoofed"));
    let refused = call(&house, "GET", "/materials/mp/x").token(bare).send();
    assert_eq!((refused.status(), refused.problem()), (403, Some("token-scope")));
    ask().expect(200);
    assert_eq!(upstream.last().header("x_carta_token"), Some(minted.as_str()), "signing is for the first call");

    house.service(MP, "materials", "mp", &table(&upstream, json!({"forward_token": "full"})), true);
    ask().expect(200);
    assert_eq!(upstream.last().header("x_carta_token"), Some(format!("Bearer {token}").as_str()));
    assert_eq!(upstream.last().header("authorization"), None);
    call(&house, "GET", "/materials/mp/x").header("X-Forwarded-Email", "alice@example.org").expect(200);
    let instead = upstream.last().header("x_carta_token").unwrap().to_owned();
    assert!(instead.starts_with("Bearer ") && !instead.contains(&token));
}
