"""What a search server takes and what it refuses: bounds, error texts, token, address, end.

`python -m tests.faults.retrieval_limits` prints the table that stands in docs/robustness.md, with
the floods of `tests.faults.retrieval_floods`.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_env.retrieval import Retriever
from refine_env.retrieval.wire import to_contents
from tests.faults.retrieval_server import FAILING_QUERY, ServerProcess, save_index

TOKEN = "correct horse"
_TELLING = re.compile(r"Traceback|File \"|\bline \d+|\.py\b|(?<![\w:/])/\w+/|secret|postings")
"""Paths, stack traces, and what the engine of the tests has in its message."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried, and what came of it."""

    what: str
    done: str
    result: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    retry_after: str | None = None

    def documents(self) -> list[list[tuple[str, str]]]:
        """Id and contents of each document of each query."""
        result = json.loads(self.body)["result"]
        return [[(entry["id"], entry["contents"]) for entry in found] for found in result]


def post(server: ServerProcess, body: Any, **headers: Any) -> Answer:
    """One request on a connection of its own; `body` as JSON unless it is bytes or parts of them.
    Raises `OSError` and `http.client.HTTPException`.
    """
    content = body if isinstance(body, bytes | Iterator) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/retrieve", content, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(), answer.headers.get("Retry-After"))
    finally:
        connection.close()


def send(server: ServerProcess, raw: bytes) -> Answer:
    """Bytes as they are, and what comes back before the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(raw)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return Answer(answer.status, answer.read())


def out_of_bounds(server: ServerProcess) -> dict[str, tuple[int, Callable[[], Answer]]]:
    """Requests that are to be refused, by what is wrong with them, with the status for it."""

    def ask(**fields: Any) -> Callable[[], Answer]:
        return lambda: post(server, {"queries": ["q"]} | fields)

    def posted(body: Any) -> Callable[[], Answer]:
        return lambda: post(server, body())

    def headed(header: str, body: bytes = b"") -> Callable[[], Answer]:
        return lambda: send(server, _head("POST /retrieve", header) + body)

    return {
        "a body of 64 MB and a byte": (413, headed(f"Content-Length: {64 * 2**20 + 1}")),
        "the same in chunks": (413, posted(lambda: iter([b" " * 2**20] * 65))),
        "1,025 queries": (413, ask(queries=["q"] * 1025)),
        "1,024 queries with topk 1,000": (413, ask(queries=["q"] * 1024, topk=1000)),
        "a query of 8,193 characters": (400, ask(queries=["q" * 8193])),
        "topk 0": (400, ask(topk=0)),
        "topk -1": (400, ask(topk=-1)),
        "topk 1,001": (400, ask(topk=1001)),
        "topk 10^30": (400, ask(topk=10**30)),
        "topk 2.5": (400, ask(topk=2.5)),
        "no JSON": (400, posted(lambda: b"queries=q")),
        "JSON 60,000 levels deep": (400, posted(lambda: b"[" * 60_000)),
        "bytes that are no UTF-8": (400, posted(lambda: b'{"queries": ["\xff"]}')),
        "no queries": (400, posted(dict)),
        "a number as a query": (400, ask(queries=[1])),
        "no body": (400, posted(bytes)),
        "a body that does not come": (408, headed("Content-Length: 5", b"{")),
        "a length below 0": (400, headed("Content-Length: -1")),
        "a length and chunks": (400, headed("Content-Length: 5\r\nTransfer-Encoding: chunked")),
        "no HTTP": (400, lambda: send(server, b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03\r\n\r\n")),
        "GET": (405, lambda: send(server, _head("GET /retrieve"))),
        "another path": (404, lambda: send(server, _head("GET /../../etc/passwd"))),
    }


def _head(target: str, *headers: str) -> bytes:
    return "\r\n".join([f"{target} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def bounds(index: Path) -> list[Finding]:
    """Each request out of bounds, with what its answer tells, and the same of failures."""
    server = ServerProcess(index, delay=0.01, body_seconds=4.0)
    try:
        asked = out_of_bounds(server)
        answers = {what: ask() for what, (_, ask) in asked.items()}
        after = post(server, {"queries": ["Ida Larkin"]})
        failed = [post(server, {"queries": [FAILING_QUERY]}) for _ in range(3)]
    finally:
        server.stop()
    got = {what: answer.status for what, answer in answers.items()}
    others = {what: status for what, status in got.items() if status != asked[what][0]}
    told = [a for a in [*answers.values(), *failed] if _TELLING.search(a.body.decode("latin-1"))]
    shown = ", ".join(
        f"{count} a {status}" for status, count in sorted(Counter(got.values()).items())
    )
    return [
        Finding(
            "bounds",
            f"{len(asked)} requests, each out of one bound: bytes, queries, characters, `topk`, "
            "documents, JSON, HTTP, time to arrive",
            f"{shown}; others than these: {others or 'none'}",
            not others and after.status == 200,
        ),
        Finding(
            "what errors tell",
            f"the answers to those, and {len(failed)} failures of an engine whose message holds a "
            "path",
            f"{len(told)} with a path, a file, a line or a trace",
            not told and all(answer.status == 500 for answer in failed),
        ),
    ]


def tokens(index: Path) -> Finding:
    """Requests without the token, with others, and with the right one."""
    server = ServerProcess(index, token=TOKEN)
    wrong = [
        *("", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"bearer {TOKEN}", TOKEN),
        *(f"Bearer {TOKEN.upper()}", f"Basic {TOKEN}", "Bearer ", "Bearer \xe9\xff", "B" * 4000),
    ]
    try:
        body = {"queries": ["Ida Larkin"]}
        refused = [post(server, body)]
        refused += [post(server, body, Authorization=value) for value in wrong]
        taken = post(server, body, Authorization=f"Bearer {TOKEN}")
    finally:
        server.stop()
    count = sum(answer.status == 401 for answer in refused)
    return Finding(
        "bearer token",
        f"none, {len(wrong)} wrong ones, the right one; compared by `hmac.compare_digest`",
        f"{count} of {len(refused)} are a 401, the right one is a {taken.status}",
        count == len(refused) and taken.status == 200,
    )


def address(index: Path) -> Finding:
    """Where a server listens that was not told anything."""
    server = ServerProcess(index)
    try:
        listening = [socket.laddr.ip for socket in server.sockets("LISTEN")]
        refused = [other for other in _other_addresses() if not _connects(other, server.port)]
    finally:
        server.stop()
    others = _other_addresses()
    return Finding(
        "address",
        f"the sockets of a server with its defaults; connections to {len(others)} other "
        "addresses of the machine",
        f"it listens at {', '.join(listening)}; {len(refused)} of {len(others)} refused",
        listening == ["127.0.0.1"] and refused == others,
    )


def _other_addresses() -> list[str]:
    import psutil

    every = [a for found in psutil.net_if_addrs().values() for a in found]
    return sorted({a.address for a in every if a.family == socket.AF_INET} - {"127.0.0.1"})


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def graceful_stop(index: Path, engine: Retriever, questions: list[str], count: int) -> Finding:
    """SIGTERM while so many requests wait for a slow engine."""
    server = ServerProcess(index, delay=0.4, max_batch=max(1, count // 4))
    asked = questions[:count]
    expected = [
        [(document.id, to_contents(document)) for document in found]
        for found in engine.search(asked, 3)
    ]
    with ThreadPoolExecutor(count) as threads:
        waiting = [threads.submit(post, server, {"queries": [text]}) for text in asked]
        while metric(server, "queries_total") < count:
            time.sleep(0.01)
        under_way = sum(not answer.done() for answer in waiting)
        code = server.stop()
        answers = [answer.result() for answer in waiting]
    right = sum(
        answer.status == 200 and answer.documents() == [documents]
        for answer, documents in zip(answers, expected, strict=True)
    )
    return Finding(
        "stop",
        f"SIGTERM with {under_way} requests under way at a slow engine",
        f"{right} of {count} answered rightly, then the process ended by "
        f"{'its signal' if code < 0 else f'exit code {code}'}",
        right == count and under_way > 0 and code in (0, -15),
    )


def metric(server: ServerProcess, name: str) -> float:
    """A count out of `/metrics`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(rf"(?m)^refine_env_{name} (\S+)$", text)
    return float(found[1]) if found else 0.0


def table(findings: list[Finding]) -> str:
    lines = ["| what | tried | result |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {f.what} | {f.done} | {f.result} |" for f in findings])


def main() -> None:
    from tests.faults import retrieval_floods as floods

    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        engine, questions = save_index(index)
        findings = [
            *bounds(index),
            tokens(index),
            address(index),
            graceful_stop(index, engine, questions, 64),
            floods.queries(index, clients=200, most=128, seconds=20.0),
            floods.bodies(index, clients=32, megabytes=32),
            floods.silent_connections(index, count=300),
            floods.unread_answers(index, questions, count=40),
        ]
    print(table(findings))
    failed = [finding.what for finding in findings if not finding.holds]
    sys.exit(f"these do not hold: {failed}" if failed else 0)


if __name__ == "__main__":
    main()
