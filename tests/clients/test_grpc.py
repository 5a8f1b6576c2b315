"""gRPC by grpcio on both sides: HTTP/2 end to end, trailers and all."""

from concurrent import futures

import grpc
import pytest

from conftest import PATIENCE, service


class Echo(grpc.GenericRpcHandler):
    """Methods on raw bytes: no generated code is needed."""

    def __init__(self):
        self.metadata = []

    def service(self, call):
        self.metadata.append(dict(call.invocation_metadata))
        name = call.method.rsplit("/", 1)[-1]
        if name == "Unary":
            return grpc.unary_unary_rpc_method_handler(lambda request, _: request[::-1])
        if name == "Count":
            return grpc.unary_stream_rpc_method_handler(lambda request, _: (bytes([n]) for n in range(request[0])))
        if name == "Chat":
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: (request * 2 for request in requests))
        if name == "Fail":
            return grpc.unary_unary_rpc_method_handler(self.fail)
        return None

    @staticmethod
    def fail(_, context):
        context.set_trailing_metadata((("reason-bin", b"\x00\x01"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")


@pytest.fixture
def echo(gateway):
    handler = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    gateway.configure(service("materials", "grpc", f"http://127.0.0.1:{port}", 'tls = { protocol = "http2" }'))
    for name in ("alice", "bob"):
        gateway.run("user", "add", name)
    gateway.run("grant", "alice", "materials.grpc", "execute")
    gateway.serve()
    with grpc.insecure_channel(gateway.proxy) as channel:
        yield gateway, handler, channel
    server.stop(None)


def as_user(gateway, name):
    return [("authorization", f"Bearer {gateway.token(name)}")]


def test_unary_and_streaming_calls_work(echo):
    gateway, handler, channel = echo
    alice = as_user(gateway, "alice")
    unary = channel.unary_unary("/materials/grpc/echo.Echo/Unary")
    assert unary(b"abc", metadata=alice, timeout=PATIENCE) == b"cba"
    assert len(unary(b"x" * 1_000_000, metadata=alice, timeout=PATIENCE)) == 1_000_000
    count = channel.unary_stream("/materials/grpc/echo.Echo/Count")
    assert list(count(b"\x05", metadata=alice, timeout=PATIENCE)) == [bytes([n]) for n in range(5)]
    chat = channel.stream_stream("/materials/grpc/echo.Echo/Chat")
    assert list(chat(iter([b"a", b"b"]), metadata=alice, timeout=PATIENCE)) == [b"aa", b"bb"]
    assert all(metadata["x-carta-user"] == "alice" and "authorization" not in metadata for metadata in handler.metadata)


def test_a_status_in_the_trailers_travels_through(echo):
    gateway, _, channel = echo
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/materials/grpc/echo.Echo/Fail")(b"", metadata=as_user(gateway, "alice"), timeout=PATIENCE)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not today")
    assert ("reason-bin", b"\x00\x01") in [tuple(pair) for pair in failed.value.trailing_metadata()]


def test_refusals_are_statuses_that_grpc_knows(echo):
    gateway, handler, channel = echo
    call = channel.unary_unary("/materials/grpc/echo.Echo/Unary")
    with pytest.raises(grpc.RpcError) as nobody:
        call(b"", timeout=PATIENCE)
    assert nobody.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", metadata=as_user(gateway, "bob"), timeout=PATIENCE)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert handler.metadata == []
