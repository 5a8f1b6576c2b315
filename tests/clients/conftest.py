"""The built gateway, recording upstreams and a real OIDC provider, for the clients that users have."""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import http.server
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

import pytest
import requests

PATIENCE = 30.0
ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("CARTA_GATEWAY", str(ROOT / "target/debug/carta-gateway"))
FETCHED = pathlib.Path(os.environ.get("CARTA_TEST_CLIENTS", ROOT / "target/clients"))
OWNER = "olga"


def eventually(what, condition, patience=PATIENCE):
    """Asks again until the condition gives something true."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {patience} s: {what}"
        time.sleep(0.02)


class Port:
    """A port that no other test has: the proxy listener shares its port, so that a clash would go unnoticed."""

    _next = os.getpid() * 37

    def __init__(self):
        folder = pathlib.Path(tempfile.gettempdir()) / "carta-gateway-test-ports"
        folder.mkdir(exist_ok=True)
        for _ in range(20_000):
            Port._next += 1
            self.number = 10_000 + Port._next % 20_000
            self.claim = open(folder / str(self.number), "w")
            try:
                fcntl.flock(self.claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", self.number))
                return
            except OSError:
                self.claim.close()
        raise RuntimeError("no free port")


class Gateway:
    """The built binary in a folder of its own."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.process = None
        self._ports = (Port(), Port())
        self.proxy, self.api = (f"127.0.0.1:{port.number}" for port in self._ports)
        self.certificate = None

    def configure(self, tables="", listen=""):
        key = base64.b64encode(bytes(range(32))).decode()
        (self.folder / "vault.key").write_text(key)
        (self.folder / "vault.key").chmod(0o600)
        (self.folder / "gateway.toml").write_text(
            f'[listen]\nproxy = "{self.proxy}"\napi = "{self.api}"\n{listen}\n'
            f'[store]\nurl = "sqlite://carta.db"\n[vault]\nkey = "file:vault.key"\n{tables}\n'
        )
        self.run("user", "add", OWNER, "--admin", "--email", "olga@example.org")
        return self

    def run(self, *arguments, check=True):
        done = subprocess.run(
            [BINARY, *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def set_password(self, user, password, temporary=False):
        """The account's password; the account is made where there is none."""
        self.run("user", "add", user, check=False)
        flags = ["--temporary"] if temporary else []
        command = [BINARY, "user", "passwd", user, "--password-stdin", *flags]
        subprocess.run(command, cwd=self.folder, input=password, capture_output=True, text=True, timeout=60, check=True)

    def token(self, user):
        return self.run("token", user)

    def bearer(self, user):
        return {"Authorization": f"Bearer {self.token(user)}"}

    def serve(self):
        with open(self.folder / "serve.log", "a") as log:
            self.process = subprocess.Popen(
                [BINARY, "serve"], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
        eventually("the gateway is ready", self.is_ready)
        return self

    def is_ready(self):
        assert self.process.poll() is None, f"the gateway ended:\n{self.log()}"
        try:
            return all(
                requests.get(f"{self.scheme}://{address}/-/ready", verify=self.certificate, timeout=5).ok
                for address in (self.proxy, self.api)
            )
        except requests.ConnectionError:
            return False

    @property
    def scheme(self):
        return "https" if self.certificate else "http"

    def url(self, path):
        return f"{self.scheme}://{self.proxy}{path}"

    def rest(self, path):
        return f"{self.scheme}://{self.api}{path}"

    def log(self):
        file = self.folder / "serve.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def gateway(tmp_path, request):
    """A gateway to configure and serve; ended by its id, its log shown when the test failed."""
    made = Gateway(tmp_path)
    yield made
    made.stop()
    outcome = getattr(request.node, "outcome_of_call", None)
    if outcome is not None and outcome.failed:
        print(f"--- the gateway's log ---\n{made.log()[-8000:]}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.outcome_of_call = report


@dataclasses.dataclass
class Received:
    method: str
    target: str
    headers: list
    body: bytes

    def all(self, name):
        return [value for own, value in self.headers if own.lower() == name.lower()]

    def one(self, name):
        (value,) = self.all(name)
        return value


class Upstream:
    """An HTTP/1.1 upstream that records what it receives."""

    def __init__(self):
        self.received = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.read_body()
                outer.received.append(Received(self.command, self.path, self.headers.items(), body))
                path = urllib.parse.urlsplit(self.path).path
                if path.endswith("/stream"):
                    self.stream()
                    return
                answer = body or f"{self.command} {self.path}".encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = handle_any

            def read_body(self):
                if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return body

            def stream(self):
                """Three events, each only after the caller has had time to see the one before."""
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for number in range(3):
                    event = f"data: {number}\n\n".encode()
                    self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
                    self.wfile.flush()
                    time.sleep(0.2)
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def only(self):
        (received,) = self.received
        return received


@pytest.fixture
def upstream():
    made = Upstream()
    yield made
    made.server.shutdown()
    made.server.server_close()


def service(namespace, name, base_url, lines=""):
    """The table of a service that the owner of all has."""
    return (
        f'[[service]]\nnamespace = "{namespace}"\nname = "{name}"\nbase_url = "{base_url}"\nowner = "{OWNER}"\n{lines}\n'
    )


@pytest.fixture
def materials(gateway, upstream):
    """One service `materials/mp` with alice's key injected; alice may call it, bob may not."""
    gateway.configure(
        service("materials", "mp", upstream.url, '[service.inject]\nheaders = { X-API-KEY = "{secret:mp-api-key}" }')
    )
    for name in ("alice", "bob"):
        gateway.run("user", "add", name, "--email", f"{name}@example.org")
    gateway.run("grant", "alice", "materials.mp", "execute")
    gateway.serve()
    stored = requests.put(
        gateway.rest("/secret"), headers={**gateway.bearer("alice"), "secret-mp-api-key": "k-123"}, timeout=PATIENCE
    )
    assert stored.ok, stored.text
    return gateway


class Certificates:
    """A certificate for the loopback address, made by openssl."""

    def __init__(self, folder):
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-keyout", self.key, "-out", self.certificate, "-days", "2", "-subj", "/CN=localhost"]
            + ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True,
            capture_output=True,
        )


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


class Provider:
    """`oidc-provider` from npm, a real OIDC provider."""

    def __init__(self):
        folder = FETCHED / "oidc"
        shutil.copy(ROOT / "tests/clients/oidc/provider.mjs", folder / "provider.mjs")
        self._port = Port()
        self.issuer = f"http://127.0.0.1:{self._port.number}"
        self.process = subprocess.Popen(
            [self._node(), "provider.mjs", str(self._port.number)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = []
        for line in self.process.stdout:
            said.append(line)
            if line.strip() == "ready":
                break
        else:
            raise RuntimeError("the provider did not start:\n" + "".join(said))
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    @staticmethod
    def _node():
        fetched = sorted((FETCHED / "node/node_modules").glob("node-linux-*/bin/node"))
        return str(fetched[0]) if fetched else "node"

    def access_token(self, client):
        """A JWT access token by client credentials."""
        answer = requests.post(
            f"{self.issuer}/token",
            auth=(client, f"{client}-secret"),
            data={"grant_type": "client_credentials", "scope": "call", "resource": "urn:gateway"},
            timeout=PATIENCE,
        )
        assert answer.ok, answer.text
        return answer.json()["access_token"]

    def id_token(self, person):
        """An ID token by the authorization code flow, walked as a browser walks it."""
        session = requests.Session()
        callback = "http://127.0.0.1/callback"
        query = {"client_id": "browser", "response_type": "code", "scope": "openid email profile"}
        query |= {"redirect_uri": callback, "state": "s", "nonce": "n"}
        answer = session.get(f"{self.issuer}/auth", params=query, allow_redirects=False, timeout=PATIENCE)
        for _ in range(10):
            location = answer.headers.get("Location", "")
            if location.startswith(callback):
                break
            if location:
                location = urllib.parse.urljoin(self.issuer, location)
                answer = session.get(location, allow_redirects=False, timeout=PATIENCE)
            else:
                action = re.search(r'action="([^"]+)"', answer.text).group(1)
                prompt = re.search(r'name="prompt" value="([^"]+)"', answer.text).group(1)
                form = {"prompt": prompt, "login": person, "password": "any"}
                answer = session.post(action, data=form, allow_redirects=False, timeout=PATIENCE)
        (code,) = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["code"]
        answer = session.post(
            f"{self.issuer}/token",
            auth=("browser", "browser-secret"),
            data={"grant_type": "authorization_code", "code": code, "redirect_uri": callback},
            timeout=PATIENCE,
        )
        assert answer.ok, answer.text
        return answer.json()["id_token"]

    def rotate(self):
        requests.post(f"{self.issuer}/test/rotate", timeout=PATIENCE).raise_for_status()

    def outage(self, on):
        requests.post(f"{self.issuer}/test/outage?on={'true' if on else 'false'}", timeout=PATIENCE).raise_for_status()

    def fetches(self):
        return int(requests.get(f"{self.issuer}/test/fetches", timeout=PATIENCE).text)

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def provider():
    made = Provider()
    yield made
    made.stop()
