"""An origin and a client in gRPC's own implementation.

`serve` answers on a free port, which it prints, until its standard input ends. `call PORT CA` calls
it through a gateway, by the name a.example.com, and prints what came of each call as JSON.
"""

import json
import sys
import threading
from concurrent import futures

import grpc

cancelled = threading.Semaphore(0)


def unary(request, context):
    if request == b"fail":
        context.set_trailing_metadata((("why", "asked for"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: 100 % \u00fc")
    context.send_initial_metadata((("began", "yes"),))
    context.set_trailing_metadata((("ended", "yes"),))
    return request.upper()


def down(request, context):
    for number in range(int(request)):
        yield b"message %d" % number


def up(requests, context):
    return b"%d bytes" % sum(len(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield request.upper()


def slow(request, context):
    """Waits for its end, and says how much time the caller gave."""
    over = threading.Event()
    context.add_callback(over.set)
    given = context.time_remaining()
    over.wait()
    if given is not None and given <= 2:
        cancelled.release()
    return b""


def were_cancelled(request, context):
    return b"yes" if cancelled.acquire(timeout=20) else b"no"


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "WereCancelled": grpc.unary_unary_rpc_method_handler(were_cancelled),
}


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    handler = grpc.method_handlers_generic_handler("test.Echo", METHODS)
    server.add_generic_rpc_handlers((handler,))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


def metadata(pairs):
    return {key: value for key, value in pairs or () if key in ("began", "ended", "why")}


def outcome(call):
    try:
        return call()
    except grpc.RpcError as error:
        trailers = metadata(error.trailing_metadata())
        return [error.code().name, error.details(), trailers]


def call(port, authority):
    with open(authority, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    name = ("grpc.ssl_target_name_override", "a.example.com")
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, [name]) as channel:

        def one():
            answer, call = channel.unary_unary("/test.Echo/Unary").with_call(b"hello", timeout=60)
            given = metadata([*call.initial_metadata(), *call.trailing_metadata()])
            return [answer.decode(), given]

        def in_turn():
            """The next message is sent when the one before has come back."""
            came = threading.Semaphore(1)

            def messages():
                for number in range(5):
                    came.acquire()
                    yield b"message %d" % number

            heard = []
            for answer in channel.stream_stream("/test.Echo/Both")(messages(), timeout=60):
                heard.append(answer.decode())
                came.release()
            return heard

        many = (b"x" * 100_000 for _ in range(50))
        unary = lambda method, request, seconds=60: outcome(
            lambda: channel.unary_unary(method)(request, timeout=seconds).decode()
        )
        print(
            json.dumps(
                {
                    "unary": outcome(one),
                    "down": outcome(
                        lambda: [
                            answer.decode()
                            for answer in channel.unary_stream("/test.Echo/Down")(b"3", timeout=60)
                        ]
                    ),
                    "up": outcome(
                        lambda: channel.stream_unary("/test.Echo/Up")(many, timeout=60).decode()
                    ),
                    "both": outcome(in_turn),
                    "failed": unary("/test.Echo/Unary", b"fail"),
                    "late": unary("/test.Echo/Slow", b"", 1)[0],
                    "cancelled": unary("/test.Echo/WereCancelled", b""),
                    "unrouted": unary("/nowhere.Echo/Unary", b"")[0],
                    "unreachable": unary("/gone.Echo/Unary", b"")[0],
                }
            )
        )


if sys.argv[1] == "serve":
    serve()
else:
    call(*sys.argv[2:])
