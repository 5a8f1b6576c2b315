"""carta-gateway itself, with everything on: tokens verified and remembered, permissions, each user's own secret, metrics."""

import base64
import http.client
import json
import secrets
import ssl
import subprocess

from .peers import Peer
from .world import AUDIENCE, ISSUER, free_port


def gateway(world, name, binary, log=False, tls=False, workers=1):
    """TLS is for both listeners of a gateway or for neither."""
    folder = world.path(name)
    while folder.exists():
        folder = folder.with_name(f"{folder.name}-again")
    folder.mkdir()
    proxy, api = free_port(), free_port()
    (folder / "vault.key").write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    (folder / "vault.key").chmod(0o600)
    tls_table = f"""
[listen.tls]
certificate = "{world.path('cert.pem')}"
key = "{world.path('key.pem')}"
""" if tls else ""
    (folder / "gateway.toml").write_text(f"""
[listen]
proxy = "127.0.0.1:{proxy}"
api = "127.0.0.1:{api}"
workers = {workers}
{tls_table}
[limits]
connections = 30000
keep_alive = "10m"
[log]
filter = "warn"
access = {str(log).lower()}
[[auth.jwt]]
issuer = "{ISSUER}"
audience = ["{AUDIENCE}"]
jwks_url = "http://127.0.0.1:{world.upstream}/jwks.json"
user_claim = "preferred_username"
[[service]]
namespace = "bench"
name = "echo"
base_url = "http://127.0.0.1:{world.upstream}"
owner = "root"
[service.inject]
headers = {{ X-Api-Key = "{{secret:key}}" }}
[[service]]
namespace = "bench"
name = "open"
base_url = "http://127.0.0.1:{world.upstream}"
owner = "root"
public = ["/b/128"]
[[service]]
namespace = "bench"
name = "ws"
base_url = "http://127.0.0.1:{world.websocket}"
owner = "root"
timeouts = {{ idle = "0" }}
""")
    run = lambda *words, text=None: command(binary, folder, *words, text=text)
    run("user", "add", "root", "--admin")
    peer = Peer(name, world, [binary, "serve", "--config", folder / "gateway.toml"])
    peer.plain, peer.tls = (None, proxy) if tls else (proxy, None)
    peer.process.listens(proxy)
    admit_users(world, api, tls, run("token", "root").strip())
    return peer


def command(binary, folder, *words, text):
    done = subprocess.run([binary, *words, "--config", str(folder / "gateway.toml")], cwd=folder, input=text,
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`carta-gateway {' '.join(words)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def admit_users(world, api, tls, root):
    """Each user has a secret and a grant of their own. The first request of a token also makes its account."""
    if tls:
        context = ssl.create_default_context(cafile=world.path("cert.pem"))
        connection = http.client.HTTPSConnection("localhost", api, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", api, timeout=60)

    def ask(method, path, token, body=None, **headers):
        connection.request(method, path, body, {"Authorization": f"Bearer {token}", **headers})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {said.decode()}")
        return json.loads(said) if said else None

    services = {name: ask("GET", f"/service/details/bench/{name}", root)["id"] for name in ("echo", "ws")}
    execute = json.dumps({"user": {"execute": True}, "private": {}, "shared": {}})
    for number, token in enumerate(world.tokens):
        ask("PUT", "/secret", token, **{"secret-key": world.secret(number)})
        user = ask("GET", "/user", token)["id"]
        for service in services.values():
            ask("PUT", f"/v2/permissions/{user}/{service}", root, execute, **{"Content-Type": "application/json"})
