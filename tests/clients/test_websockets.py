"""WebSockets by the `websockets` package on both sides."""

import threading

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from conftest import PATIENCE, service


@pytest.fixture
def echo(gateway):
    """A WebSocket service `materials/ws` that alice may call and bob may not; it echoes and notes its handshakes."""
    handshakes = []

    def answer(connection):
        handshakes.append(connection.request)
        for message in connection:
            connection.send(message)

    with serve(answer, "127.0.0.1", 0, max_size=2**24, subprotocols=["v1"], compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gateway.configure(service("materials", "ws", f"http://127.0.0.1:{server.socket.getsockname()[1]}"))
        for name in ("alice", "bob"):
            gateway.run("user", "add", name)
        gateway.run("grant", "alice", "materials.ws", "execute")
        gateway.serve()
        gateway.handshakes = handshakes
        yield gateway
        server.shutdown()


def open_as(gateway, user, **options):
    headers = gateway.bearer(user) if user else {}
    return connect(
        f"ws://{gateway.proxy}/materials/ws/chat",
        additional_headers=headers,
        subprotocols=["v1"],
        open_timeout=PATIENCE,
        **options,
    )


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("bob", 403)])
def test_a_handshake_that_is_not_permitted_is_refused_before_the_upstream_sees_it(echo, user, status):
    with pytest.raises(InvalidStatus) as refused:
        open_as(echo, user)
    assert refused.value.response.status_code == status
    assert echo.handshakes == []


def test_messages_of_every_size_come_back(echo):
    with open_as(echo, "alice", max_size=2**24, compression=None) as socket:
        assert socket.subprotocol == "v1"
        for message in ["", "hello", "ü" * 1000, b"\x00\xff" * 50_000, b"x" * 5_000_000]:
            socket.send(message)
            assert socket.recv(timeout=PATIENCE) == message
    (handshake,) = echo.handshakes
    assert handshake.path == "/chat"
    assert handshake.headers["X-Carta-User"] == "alice"
    assert "Authorization" not in handshake.headers


def test_a_close_code_travels_through(echo):
    with open_as(echo, "alice") as socket:
        socket.send("x")
        socket.recv(timeout=PATIENCE)
        socket.close(4001, "done")
        assert socket.protocol.close_rcvd.code == 4001


def test_an_open_websocket_ends_when_the_grant_is_taken_away(echo):
    with open_as(echo, "alice") as socket:
        socket.send("x")
        assert socket.recv(timeout=PATIENCE) == "x"
        echo.run("revoke", "alice", "materials.ws", "execute")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=PATIENCE)
    with pytest.raises(InvalidStatus):
        open_as(echo, "alice")


def test_an_open_websocket_ends_when_its_user_is_disabled(echo):
    with open_as(echo, "alice") as socket:
        socket.send("x")
        assert socket.recv(timeout=PATIENCE) == "x"
        echo.run("user", "disable", "alice")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=PATIENCE)
