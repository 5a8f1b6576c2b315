"""The lines that quickstart prints, pasted into bash one after the other, from another directory."""

import json
import subprocess

import pytest

from conftest import BINARY, eventually

REASON = "Ctrl-C ends it"


@pytest.fixture
def quickstart(tmp_path):
    """The commands that a running quickstart printed."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    printed, log = tmp_path / "printed", tmp_path / "log"
    with open(printed, "w") as out, open(log, "w") as err:
        process = subprocess.Popen([BINARY, "quickstart"], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    try:

        def ready():
            assert process.poll() is None, f"quickstart ended:\n{printed.read_text()}{log.read_text()}"
            return REASON in printed.read_text()

        eventually("the lines are printed", ready)
        lines = printed.read_text().splitlines()
        yield [line for line in lines if line.startswith("curl ") or " explain --config " in line]
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()


def paste(line, folder):
    """What bash printed for the line."""
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_printed_lines_show_what_they_say(quickstart, tmp_path):
    nobody, refused, stored, granted, called, streamed, explained = (paste(line, tmp_path) for line in quickstart)
    assert nobody.startswith("HTTP/1.1 401") and "www-authenticate: Bearer" in nobody
    assert refused.startswith("HTTP/1.1 403") and "alice" in refused and "execute" in refused
    assert stored.startswith("HTTP/1.1 200") and granted.startswith("HTTP/1.1 200")
    head, body = called.split("\n\n", 1)
    received = json.loads(body)["received"]["headers"]
    key = quickstart[2].split("secret-demo-key: ", 1)[1].split("'", 1)[0]
    assert head.startswith("HTTP/1.1 200") and (received["x-api-key"], received["x-carta-user"]) == (key, "bob")
    assert "authorization" not in received
    assert streamed.count("data: event") == 5
    assert "allowed" in explained and "bob" in explained
