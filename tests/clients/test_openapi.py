"""The description of the API, held against the gateway by schemathesis, and its page in a real browser."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import requests
import schemathesis
from conftest import OWNER, PATIENCE, service
from playwright.sync_api import sync_playwright

FOLDER = pathlib.Path(__file__).parent / "schemathesis"
# With more, by hand: SCHEMATHESIS_EXAMPLES=500 pytest tests/clients/test_openapi.py
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "8")


@pytest.fixture
def described(gateway, upstream):
    """A gateway with people, a group, a secret and a service of each kind."""
    gateway.configure(service("materials", "mp", upstream.url) + "[register]\nallow_loopback = true\n")
    for name in ("alice", "bob"):
        gateway.run("user", "add", name, "--email", f"{name}@example.org")
    gateway.run("grant", "alice", "materials.mp", "execute")
    gateway.serve()
    alice = gateway.bearer("alice")
    for method, path in (
        ("POST", "/user/group/Lab"),
        ("POST", "/user/group/Lab/bob"),
        ("POST", "/service/reserve/lab"),
        ("POST", f"/service/register/lab/own?baseUrl={upstream.url}"),
    ):
        assert requests.request(method, gateway.rest(path), headers=alice, timeout=PATIENCE).ok, path
    stored = requests.put(gateway.rest("/secret"), headers={**alice, "secret-key": "k-123"}, timeout=PATIENCE)
    assert stored.ok, stored.text
    return gateway


def run(gateway, user, *arguments):
    """What schemathesis says of the API as the user sees it."""
    shutil.copytree(FOLDER, gateway.folder, dirs_exist_ok=True)
    command = [pathlib.Path(sys.executable).parent / "st", "run"]
    # Any number in the header would be waited for, so that it is left out.
    document = requests.get(gateway.rest("/openapi.json"), timeout=PATIENCE).json()
    for item in document["paths"].values():
        for operation in item.values():
            operation["parameters"] = [
                one for one in operation["parameters"] if not one.get("$ref", "").endswith("/Carta-Min-Revision")
            ]
    (gateway.folder / "openapi.json").write_text(json.dumps(document))
    command += ["openapi.json", "--url", gateway.rest("")]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES]
    done = subprocess.run(
        [*command, *arguments],
        cwd=gateway.folder,
        env={**os.environ, "TOKEN": gateway.token(user), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("user", [OWNER, "alice"])
def test_nothing_is_answered_that_is_not_described(described, user):
    """As an administrator and as a plain user: no failure of the gateway, no status, type or body but those described,
    no input of the wrong form taken, no method but those described, nothing without a credential."""
    code, said = run(described, user)
    assert code == 0, said[-20000:]
    (tested,) = re.findall(r"Tested: (\d+)", said)
    assert int(tested) > 40, said[-4000:]
    assert described.is_ready()
    assert "panicked" not in described.log()


def test_what_is_told_about_decisions_and_changes_is_as_described(described):
    """Answers of many members, which need a call that was made to have them all."""
    schema = schemathesis.openapi.from_dict(requests.get(described.rest("/openapi.json"), timeout=PATIENCE).json())

    def fits(path, method, answer):
        assert answer.status_code == 200, answer.text
        schema[path][method].validate_response(answer)
        return answer.json()

    refused = requests.get(described.url("/materials/mp/x"), headers=described.bearer("bob"), timeout=PATIENCE)
    assert refused.status_code == 403
    allowed = requests.get(described.url("/materials/mp/x"), headers=described.bearer("alice"), timeout=PATIENCE)
    assert allowed.status_code == 200
    for user, call in ((OWNER, refused), ("bob", refused), ("alice", allowed), (OWNER, allowed)):
        path = f"/explain/{call.headers['x-request-id']}"
        told = requests.get(described.rest(path), headers=described.bearer(user), timeout=PATIENCE)
        told = fits("/explain/{request_id}", "GET", told)
        assert told["status"] == call.status_code
    for user, about in ((OWNER, "bob"), (OWNER, "alice"), ("bob", "bob")):
        query = {"path": "/materials/mp/x", "user": about}
        told = requests.get(described.rest("/explain"), params=query, headers=described.bearer(user), timeout=PATIENCE)
        assert fits("/explain", "GET", told)["why"]["user"] == about
    changes = [
        {"subject": "bob", "resource": "materials.mp", "levels": "execute"},
        {"subject": "alice", "resource": "materials.mp", "levels": None},
    ]
    told = requests.post(
        described.rest("/permissions/preview"), json={"changes": changes}, headers=described.bearer(OWNER), timeout=PATIENCE
    )
    told = fits("/permissions/preview", "POST", told)
    assert told["gains"] and told["losses"]
    questions = [{"user": user, "resource": "materials.mp", "level": "execute"} for user in ("alice", "bob", "nobody")]
    told = requests.post(
        described.rest("/permissions/check"),
        json={"checks": questions, "reasons": True},
        headers=described.bearer(OWNER),
        timeout=PATIENCE,
    )
    told = fits("/permissions/check", "POST", told)
    assert [answer["allowed"] for answer in told["answers"]] == [True, False, False]
    for path in ("/service/config/materials/mp", "/service/config/lab/own"):
        user = OWNER if "materials" in path else "alice"
        table = requests.get(described.rest(path), headers=described.bearer(user), timeout=PATIENCE)
        fits("/service/config/{ns}/{svc}", "GET", table)


def test_the_page_lists_every_operation_and_asks_no_other_host(described):
    operations = requests.get(described.rest("/openapi.json"), timeout=PATIENCE).json()["paths"].values()
    count = sum(len(item) for item in operations)
    asked, said = [], []
    with sync_playwright() as playwright:
        # The sandbox needs rights that a container does not give; the page is our own.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        # Browsers also say what they would do otherwise, such as a field without a hint for password managers.
        wrong = ("error", "warning")
        page.on("console", lambda message: message.type in wrong and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(described.rest("/docs"))
        page.wait_for_selector(".opblock")
        assert page.locator(".opblock").count() == count
        assert said == [], "no error, and nothing that the Content-Security-Policy had to stop"

        # A call that is tried there is made, with the token that was typed in.
        page.get_by_role("button", name="Authorize").click()
        page.locator(".auth-container", has_text="bearer").locator("input").fill(described.token("alice"))
        page.locator(".auth-container", has_text="bearer").get_by_role("button", name="Apply credentials").click()
        page.locator(".btn-done").first.click()
        call = page.locator("#operations-users-current_user")
        call.locator(".opblock-summary-control").click()
        call.get_by_role("button", name="Try it out").click()
        call.get_by_role("button", name="Execute").click()
        answer = call.locator(".live-responses-table .response").first
        answer.wait_for()
        assert "200" in answer.inner_text() and "alice@example.org" in answer.inner_text()
        browser.close()
    assert said == []
    assert asked and all(url.startswith(described.rest("/")) for url in asked), asked
