"""curl with HTTP/1.1, HTTP/2 and the handshake of a WebSocket."""

import subprocess
import threading

import pytest
from websockets.sync.server import serve as serve_websockets

from conftest import service


def curl(*arguments):
    """What curl printed. `-q` first: no `.curlrc` decides how."""
    done = subprocess.run(["curl", "-q", "-sS", *arguments], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("option", "version"), [("--http1.1", "1.1"), ("--http2", "1.1"), ("--http2-prior-knowledge", "2")]
)
def test_curl_over_plain_tcp(materials, upstream, option, version):
    form = ["-w", " %{http_version} %{http_code}", option]
    url = materials.url("/materials/mp/x%20y?q=1")
    assert curl(*form, url).endswith(f" {version} 401")
    token = materials.token("alice")
    said = curl(*form, "-H", f"Authorization: Bearer {token}", url)
    assert said == f"GET /x%20y?q=1 {version} 200"
    assert upstream.only.one("x-api-key") == "k-123"
    assert token not in str(upstream.only)


@pytest.mark.parametrize(("option", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
def test_curl_over_tls_by_alpn(gateway, upstream, certificates, option, version):
    gateway.configure(
        service("materials", "mp", upstream.url),
        listen=f'[listen.tls]\ncertificate = "{certificates.certificate}"\nkey = "{certificates.key}"',
    )
    gateway.certificate = str(certificates.certificate)
    gateway.serve()
    said = curl(
        option, "--cacert", gateway.certificate, "-w", " %{http_version} %{http_code}",
        "-H", f"Authorization: Bearer {gateway.token('olga')}", gateway.url("/materials/mp/x"),
    )  # fmt: skip
    assert said == f"GET /x {version} 200"


def test_curl_waits_for_100_continue_before_it_uploads(materials, upstream, tmp_path):
    (tmp_path / "upload").write_bytes(b"x" * 3_000_000)
    head = ["-o", "/dev/null", "-v", "--expect100-timeout", "30", "-H", "Expect: 100-continue", "-T", tmp_path / "upload"]
    said = curl(*head, "-H", f"Authorization: Bearer {materials.token('alice')}", materials.url("/materials/mp/up"))
    assert "HTTP/1.1 100 Continue" in said and "HTTP/1.1 200 OK" in said
    assert len(upstream.only.body) == 3_000_000
    refused = curl(*head, "-H", f"Authorization: Bearer {materials.token('bob')}", materials.url("/materials/mp/up"))
    assert "HTTP/1.1 403" in refused and "100 Continue" not in refused


def test_curl_asks_for_a_websocket_and_gets_the_upstreams_101(gateway):
    """Debian's curl speaks no WebSocket frames: it does the handshake here, test_websockets.py does the rest."""
    with serve_websockets(lambda connection: connection.wait_closed(), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gateway.configure(service("materials", "ws", f"http://127.0.0.1:{server.socket.getsockname()[1]}"))
        gateway.serve()
        ask = ["-i", "-N", "--http1.1", "--max-time", "2", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"]
        ask += ["-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        assert curl(*ask, gateway.url("/materials/ws/chat")).startswith("HTTP/1.1 401")
        said = curl(*ask, "-H", f"Authorization: Bearer {gateway.token('olga')}", gateway.url("/materials/ws/chat"))
        assert said.startswith("HTTP/1.1 101")
        assert "s3pplmbitxaq9kygzzhzrbk+xoo=" in said.lower()  # RFC 6455 §1.3
        server.shutdown()
