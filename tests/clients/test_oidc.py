"""Tokens of a real OIDC provider (`oidc-provider`), whose keys change while the gateway runs."""

import base64
import json

import pytest
import requests

from conftest import PATIENCE, eventually, service


@pytest.fixture
def federated(gateway, upstream, provider):
    gateway.configure(
        service("materials", "mp", upstream.url)
        + f"""
[[auth.jwt]]
issuer = "{provider.issuer}"
audience = ["urn:gateway", "browser"]
user_claim = "preferred_username"
email_claim = "email"
create_users = true
new_user_role = "Guest"
"""
    )
    gateway.run("grant", "everyone", "materials.mp", "execute")
    return gateway


def call(gateway, token):
    return requests.get(
        gateway.url("/materials/mp/x"), headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE
    )


def test_an_access_token_makes_the_account_and_the_call(federated, provider, upstream):
    federated.serve()
    answer = call(federated, provider.access_token("alice"))
    assert answer.status_code == 200, answer.text
    assert upstream.only.one("x-carta-user") == "alice"
    assert upstream.only.one("x-carta-email") == "alice@example.org"


def test_an_id_token_of_the_authorization_code_flow_is_good_too(federated, provider, upstream):
    federated.serve()
    answer = call(federated, provider.id_token("carol"))
    assert answer.status_code == 200, answer.text
    assert upstream.only.one("x-carta-user") == "carol"


def test_rotated_keys_are_found_at_once_and_withdrawn_ones_die(federated, provider):
    federated.serve()
    old = provider.access_token("alice")
    assert call(federated, old).status_code == 200
    provider.rotate()
    new = provider.access_token("alice")
    assert call(federated, new).status_code == 200, "a token of an unknown key makes the gateway look"
    eventually("the withdrawn key's token is dead", lambda: call(federated, old).status_code == 401)
    assert call(federated, new).status_code == 200


def test_unknown_keys_make_the_gateway_look_only_so_often(federated, provider):
    federated.serve()
    good = provider.access_token("alice")
    assert call(federated, good).status_code == 200
    before = provider.fetches()
    head, body, signature = good.split(".")
    for number in range(30):
        kid = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": f"k{number}"}).encode()).decode().rstrip("=")
        assert call(federated, f"{kid}.{body}.{signature}").status_code == 401
    assert provider.fetches() - before <= 3


def test_without_the_providers_keys_nobody_comes_in(federated, provider, upstream):
    provider.outage(True)
    token = provider.access_token("alice")
    federated.serve()
    refused = call(federated, token)
    assert refused.status_code == 503
    assert upstream.received == []
    provider.outage(False)
    eventually("the keys are back", lambda: call(federated, token).status_code == 200)


def test_an_outage_does_not_end_what_was_verified(federated, provider):
    federated.serve()
    token = provider.access_token("alice")
    assert call(federated, token).status_code == 200
    provider.outage(True)
    assert call(federated, token).status_code == 200


def test_the_accounts_of_two_issuers_do_not_mix(federated, provider):
    """Another issuer that claims an account's name is refused until an administrator links the two."""
    federated.run("user", "add", "bob")
    federated.serve()
    refused = call(federated, provider.access_token("bob"))
    assert refused.status_code == 403
    assert refused.headers["Carta-Gateway"] == "identity-conflict"
