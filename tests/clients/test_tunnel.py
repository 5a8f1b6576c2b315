"""A function behind a tunnel: pycarta's `service.connect()` with a real FastAPI application behind it."""

import os
import subprocess

import pytest
import requests

from conftest import FETCHED, PATIENCE, eventually

SERVICE = """
import asyncio, os
import pycarta
from pycarta.auth import CartaAgent
from pydantic import BaseModel

HOST = os.environ["GATEWAY"]
# A service asks the default host about its callers.
CartaAgent.HOST_PROD = CartaAgent.HOST_DEV = HOST
pycarta.set_agent(CartaAgent(token=os.environ["TOKEN"], host=HOST))

class Points(BaseModel):
    x: list[float]
    y: list[float]

service = pycarta.service("lab", "fit", users={"alice": "User"})

@service.get()
def slope(*, x: float, y: float):
    return {"slope": y / x, "name": "Müller"}

@service.post()
def mean(points: Points):
    return {"x": sum(points.x) / len(points.x), "y": sum(points.y) / len(points.y)}

@service.get("say/{word}")
def say(word: str):
    return word

asyncio.run(pycarta.service.connect())
"""


class Lab:
    """`lab/fit`, which tess exposes from behind a tunnel and shares with alice."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.process = None
        self.start()

    def start(self):
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
        kept |= {"HOME": str(self.gateway.folder), "GATEWAY": self.gateway.rest(""), "TOKEN": self.gateway.token("tess")}
        with open(self.gateway.folder / "service.log", "a") as log:
            self.process = subprocess.Popen(
                [FETCHED / "pycarta-0.3.12/bin/python", "-c", SERVICE],
                cwd=self.gateway.folder,
                env=kept | {"PYTHONWARNINGS": "ignore"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually("the tunnel is open", lambda: self.tunnels() == 1, 4 * PATIENCE)

    def tunnels(self):
        assert self.process.poll() is None, self.log()
        text = requests.get(self.gateway.rest("/-/metrics"), timeout=PATIENCE).text
        return sum(int(line.split()[-1]) for line in text.splitlines() if line.startswith("carta_gateway_tunnels "))

    def log(self):
        return (self.gateway.folder / "service.log").read_text(errors="replace")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def call(self, user, method, path, api=False, headers=(), **more):
        url = self.gateway.rest(f"/service/lab/fit{path}") if api else self.gateway.url(f"/lab/fit{path}")
        headers = {**self.gateway.bearer(user), **dict(headers)}
        return requests.request(method, url, headers=headers, timeout=2 * PATIENCE, **more)


@pytest.fixture
def lab(gateway):
    gateway.configure()
    for name in ("alice", "bob", "tess"):
        gateway.run("user", "add", name, "--email", f"{name}@example.org")
    gateway.serve()
    made = Lab(gateway)
    yield made
    made.stop()
    print(made.log()[-8000:])


SLOPE = {"slope": 2.0, "name": "Müller"}


def test_a_function_is_called_by_the_proxy_listener_as_any_service(lab):
    answer = lab.call("alice", "GET", "/slope?x=2&y=4")
    assert (answer.status_code, answer.json()) == (200, SLOPE), answer.text
    assert answer.headers["Content-Type"] == "application/json"
    answer = lab.call("alice", "POST", "/mean", json={"x": [1, 3], "y": [10, 20]})
    assert (answer.status_code, answer.json()) == (200, {"x": 2.0, "y": 15.0}), answer.text
    assert lab.call("alice", "GET", "/say/a%20b").json() == "a b"
    assert lab.call("tess", "GET", "/slope?x=2&y=4").json() == SLOPE
    # What the function itself refuses comes as it is.
    assert lab.call("alice", "GET", "/slope?x=two&y=4").status_code == 422
    assert lab.call("alice", "GET", "/nothing").status_code == 404


def test_a_function_is_called_by_the_api_listener_as_a_task_or_by_waiting(lab):
    answer = lab.call("alice", "GET", "/slope?x=2&y=4", api=True)
    assert answer.status_code == 202, answer.text
    (task,) = answer.json().values()

    def complete():
        said = lab.call("alice", "GET", "", api=True, params={"taskId": task})
        assert said.status_code in (200, 202), said.text
        return said.status_code == 200 and said.json()

    said = eventually("the task is complete", complete)
    assert (said["taskId"], said["status"], said["statusCode"]) == (task, "complete", 200)
    assert requests.models.complexjson.loads(said["response"]) == SLOPE
    assert lab.call("bob", "GET", "", api=True, params={"taskId": task}).status_code == 404
    answer = lab.call("alice", "POST", "/mean", api=True, json={"x": [1], "y": [2]}, headers={"Prefer": "wait=60"})
    assert (answer.status_code, answer.json()) == (200, {"x": 1.0, "y": 2.0}), answer.text
    assert answer.headers["Preference-Applied"] == "wait=60"


def test_only_whom_it_is_shared_with_calls_a_function(lab):
    for api in (False, True):
        refused = lab.call("bob", "GET", "/slope?x=2&y=4", api=api)
        assert (refused.status_code, refused.headers["Carta-Gateway"]) == (403, "permission-denied")
        assert requests.get(lab.gateway.url("/lab/fit/slope?x=2&y=4"), timeout=PATIENCE).status_code == 401
    # `execute` without `read` passes the gateway, and the service itself refuses: it looks its caller up.
    lab.gateway.run("grant", "bob", "lab.fit", "execute")
    (refused,) = eventually("the grant is there", lambda: answered(lab.call("bob", "GET", "/slope?x=2&y=4"), 403, None))
    assert "Not authorized" in refused.text
    lab.gateway.run("grant", "bob", "lab.fit", "read,execute")
    eventually("the grant is there", lambda: answered(lab.call("bob", "GET", "/slope?x=2&y=4"), 200, None))
    lab.gateway.run("revoke", "alice", "lab.fit", "execute")
    eventually("the grant is gone", lambda: answered(lab.call("alice", "GET", "/slope?x=2&y=4"), 403, "permission-denied"))


def answered(answer, status, problem):
    fits = answer.status_code == status and answer.headers.get("Carta-Gateway") == problem
    # A response that is no success is false.
    return (answer,) if fits else None


def test_a_service_that_comes_back_takes_its_calls_again(lab):
    lab.stop()
    eventually("the tunnel is gone", lambda: lab.call("alice", "GET", "/slope?x=2&y=4").status_code != 200)
    gone = lab.call("alice", "GET", "/slope?x=2&y=4")
    # Its address is the placeholder, which is no target.
    assert (gone.status_code, gone.headers["Carta-Gateway"]) == (502, "target-refused")
    lab.start()
    assert lab.call("alice", "GET", "/slope?x=2&y=4").json() == SLOPE
    assert [lab.call("alice", "GET", f"/say/{number}").json() for number in range(10)] == [str(n) for n in range(10)]
