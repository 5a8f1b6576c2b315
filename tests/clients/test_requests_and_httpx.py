"""Python's two HTTP clients, as pycarta uses them."""

import ssl

import httpx
import pytest
import requests

from conftest import PATIENCE, service


def test_requests_is_refused_permitted_and_given_the_secret(materials, upstream):
    url = materials.url("/materials/mp/v2/items?ids=a%2Fb&ids=c")
    assert requests.get(url, timeout=PATIENCE).status_code == 401
    refused = requests.get(url, headers=materials.bearer("bob"), timeout=PATIENCE)
    assert (refused.status_code, refused.headers["Content-Type"]) == (403, "application/problem+json")
    assert upstream.received == []
    alice = materials.bearer("alice")
    answer = requests.get(url, headers=alice, timeout=PATIENCE)
    assert (answer.status_code, answer.text) == (200, "GET /v2/items?ids=a%2Fb&ids=c")
    assert upstream.only.one("x-api-key") == "k-123"
    assert upstream.only.all("authorization") == []
    assert upstream.only.one("x-carta-user") == "alice"


def test_requests_keeps_one_session_over_refusals_and_answers(materials):
    with requests.Session() as session:
        session.headers.update(materials.bearer("alice"))
        for number in range(20):
            path = f"/materials/mp/{number}" if number % 2 else f"/materials/unknown/{number}"
            expected = 200 if number % 2 else 404
            assert session.get(materials.url(path), timeout=PATIENCE).status_code == expected


def test_requests_streams_an_upload_of_unknown_length(materials, upstream):
    pieces = [bytes([number]) * 10_000 for number in range(50)]
    answer = requests.post(
        materials.url("/materials/mp/upload"), headers=materials.bearer("alice"), data=iter(pieces), timeout=PATIENCE
    )
    assert answer.content == b"".join(pieces)
    assert upstream.only.all("transfer-encoding") == ["chunked"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_httpx_sends_every_method(materials, upstream, method):
    answer = httpx.request(
        method, materials.url("/materials/mp/thing"), headers=materials.bearer("alice"), timeout=PATIENCE
    )
    assert answer.status_code == 200
    assert (upstream.only.method, upstream.only.target) == (method, "/thing")


def test_httpx_sees_each_event_of_a_stream_when_it_is_sent(materials):
    seen = []
    with httpx.stream(
        "GET", materials.url("/materials/mp/stream"), headers=materials.bearer("alice"), timeout=PATIENCE
    ) as answer:
        for line in answer.iter_lines():
            if line:
                seen.append(line)
    assert seen == ["data: 0", "data: 1", "data: 2"]


def test_httpx_speaks_http2_by_alpn(gateway, upstream, certificates):
    gateway.configure(
        service("materials", "mp", upstream.url),
        listen=f'[listen.tls]\ncertificate = "{certificates.certificate}"\nkey = "{certificates.key}"',
    )
    gateway.certificate = str(certificates.certificate)
    gateway.run("grant", "everyone", "materials.mp", "execute")
    gateway.serve()
    trust = ssl.create_default_context(cafile=gateway.certificate)
    with httpx.Client(http2=True, verify=trust, headers=gateway.bearer("olga"), timeout=PATIENCE) as client:
        answers = [client.post(gateway.url("/materials/mp/x"), content=b"body") for _ in range(5)]
    assert {(answer.http_version, answer.status_code, answer.text) for answer in answers} == {("HTTP/2", 200, "body")}


def test_httpx_speaks_http2_without_tls(materials, upstream):
    with httpx.Client(http1=False, http2=True, timeout=PATIENCE) as client:
        refused = client.get(materials.url("/materials/mp/x"))
        assert (refused.http_version, refused.status_code) == ("HTTP/2", 401)
        answer = client.get(materials.url("/materials/mp/x"), headers=materials.bearer("alice"))
        assert (answer.http_version, answer.status_code, answer.text) == ("HTTP/2", 200, "GET /x")
    assert upstream.only.one("x-api-key") == "k-123"


def test_the_api_listener_calls_services_too(materials, upstream):
    answer = requests.get(
        materials.rest("/service/materials/mp/a/b?c=d"), headers=materials.bearer("alice"), timeout=PATIENCE
    )
    assert (answer.status_code, answer.text) == (200, "GET /a/b?c=d")
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    assert upstream.only.one("x-api-key") == "k-123"
