"""What a network, a proxy or a server may do with an answer, by name: the rows of the table."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import struct
import time

from tests.faults.retrieval_proxy import Exchange, Handler, split

_WRONG_SCORES: tuple[object, ...] = ("1", True, [], float("nan"), float("inf"), 10**400, -(10**400))
_DATE = "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT"


def with_body(message: bytes, body: bytes) -> bytes:
    """The same head, but for the length, before another body."""
    head = re.sub(rb"(?i)(\r\ncontent-length: *)\d+", rb"\g<1>%d" % len(body), split(message)[0])
    return head + b"\r\n\r\n" + body


def respond(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def hang(exchange: Exchange) -> bool:
    """Takes the request and says nothing."""
    exchange.client.recv(1)
    return False


def half_open(exchange: Exchange) -> bool:
    """As if both ends had lost their power: half a request stands at the server, the client gets
    neither an answer nor an end.
    """
    with contextlib.suppress(OSError):
        server = exchange.proxy.backend()
        server.sendall(exchange.request[: len(exchange.request) // 2])
        exchange.proxy.keep(server)
    exchange.proxy.keep(exchange.client)
    return False


def slow(exchange: Exchange) -> bool:
    """A byte now and then, so that no single wait is long."""
    for byte in exchange.forward():
        exchange.client.sendall(bytes([byte]))
        time.sleep(0.02)
    return True


def cut(exchange: Exchange) -> bool:
    """Ends before, in the head of or in the body of the answer; sometimes by a reset."""
    answer = exchange.forward()
    head = len(split(answer)[0]) + 4
    places = (0, exchange.dice.randrange(1, head), exchange.dice.randrange(head, len(answer)))
    exchange.client.sendall(answer[: exchange.dice.choice(places)])
    if exchange.dice.random() < 0.5:
        no_wait = struct.pack("ii", 1, 0)
        exchange.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_wait)
    return False


def no_http(exchange: Exchange) -> bool:
    """Bytes that are no HTTP, or hardly."""
    noise = exchange.dice.randbytes(200)
    choices = [
        noise,
        b"\r\n\r\n" + noise,
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 300_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{",
    ]
    exchange.client.sendall(exchange.dice.choice(choices))
    return False


def no_json(exchange: Exchange) -> bool:
    """HTTP whose body is no JSON, or not all of it."""
    body = split(exchange.forward())[1]
    choices = [
        b"",
        b"<html>be right back</html>",
        body[: len(body) // 2],
        body.replace(b'"', b"'", 3),
        b"\xff\xfe" + body,
        b"[" * 200_000,
        body + body,
    ]
    exchange.client.sendall(respond(200, exchange.dice.choice(choices)))
    return True


def wrong_shape(exchange: Exchange) -> bool:
    """JSON that is no answer."""
    deep: object = []
    for _ in range(200):
        deep = [deep]
    entries: list[object] = [
        *(None, 1, {}, [], deep, {"id": "1"}, {"id": [], "contents": "x"}),
        {"document": None, "score": 1.0},
        {"document": {"id": "1", "contents": 5}, "score": 1.0},
        *({"document": {"id": "1", "contents": "x"}, "score": score} for score in _WRONG_SCORES),
    ]
    entry = exchange.dice.choice(entries)
    shapes: list[object] = [{}, [], None, 7, "result", {"result": None}, {"result": {}}]
    shapes += [{"result": [[entry]] * exchange.count}] * 9
    body = json.dumps(exchange.dice.choice(shapes)).encode()
    exchange.client.sendall(respond(200, body))
    return True


def of_another(exchange: Exchange) -> bool:
    """The whole answer, head and all, that the server gave to another request."""
    answer = exchange.proxy.another_answer(exchange)
    exchange.client.sendall(answer)
    return bool(answer)


def mixed_up(exchange: Exchange) -> bool:
    """The right answer with its results in another order, or without its last document."""
    answer = exchange.forward()
    result = json.loads(split(answer)[1]).get("result", [])
    turned = result[1:] + result[:1]
    if turned == result:
        turned = [found[:-1] for found in result]
    body = json.dumps({"result": turned}, separators=(",", ":"), ensure_ascii=False).encode()
    exchange.client.sendall(with_body(answer, body))
    return True


def twice(exchange: Exchange) -> bool:
    """The right answer two times: the second lies there for the connection's next request."""
    exchange.client.sendall(exchange.forward() * 2)
    return True


def miscounted(exchange: Exchange) -> bool:
    """One result too many or too few, or more documents than were asked for."""
    answer = exchange.forward()
    result = json.loads(split(answer)[1]).get("result", [])
    filler = [{"document": {"id": "0", "contents": '"t"\nx'}, "score": 1.0}]
    choices = [[*result, filler], result[:-1], [[*found, *filler * 9] for found in result]]
    body = json.dumps({"result": exchange.dice.choice(choices)}).encode()
    exchange.client.sendall(with_body(answer, body))
    return True


def status(number: int, *headers: str) -> Handler:
    def handle(exchange: Exchange) -> bool:
        exchange.client.sendall(respond(number, b'{"detail": "not now"}', *headers))
        return True

    return handle


def any_of(*handlers: Handler) -> Handler:
    turn = itertools.cycle(handlers)
    return lambda exchange: next(turn)(exchange)


HANDLERS: dict[str, Handler] = {
    "hang": hang,
    "half-open": half_open,
    "slow": slow,
    "cut": cut,
    "no HTTP": no_http,
    "no JSON": no_json,
    "wrong shape": wrong_shape,
    "answer of another request": of_another,
    "results mixed up": mixed_up,
    "answer sent twice": twice,
    "too many or too few": miscounted,
    "429": status(429),
    "429, Retry-After": any_of(*(status(429, f"Retry-After: {n}") for n in (0, 1))),
    "503": any_of(status(503), status(503, _DATE), status(503, "Retry-After: soon")),
    "503, Retry-After": any_of(*(status(503, f"Retry-After: {n}") for n in (0, 1))),
    "500, 502, 504": any_of(status(500), status(502), status(504)),
}
