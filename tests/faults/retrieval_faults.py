"""Search through a faulty network, from servers that are killed, and count how every call ends.

    OMP_NUM_THREADS=1 python -m tests.faults.retrieval_faults --requests 10000

`HttpRetriever` asks two real servers over a small BM25 index, each behind a proxy of its own that
hits requests by a seeded plan. Half of the calls know both addresses, half only the first. A call
has to end once, within its deadline, in what the index itself answers or in a `RetrieverError`.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from refine_env.retrieval import Retriever, RetrieverError
from refine_env.retrieval.http import HttpConfig, HttpRetriever
from refine_env.types import Document
from tests.faults.retrieval_answers import HANDLERS
from tests.faults.retrieval_counts import (
    Call,
    Ended,
    Outage,
    Report,
    Stalls,
    count_up,
    table,
)
from tests.faults.retrieval_proxy import Faults, Proxy
from tests.faults.retrieval_server import ServerProcess, save_index

DEADLINES = (0.5, 3.0)
"""Seconds of a call; three quarters of the calls have the first."""
_FAULTY = 0.45
"""Share of the calls that are to be hit."""
_EVERY_TIME = 99
_RARE = ("429, Retry-After", "503, Retry-After")
"""These keep a whole client from a server for a second, so that fewer are enough."""


def plan_calls(count: int, questions: Sequence[str], seed: int) -> list[Call]:
    """The same seed always gives the same calls."""
    dice = random.Random(seed)
    kinds = [kind for kind in HANDLERS for _ in range(1 if kind in _RARE else 5)]
    calls = []
    for number in range(count):
        size = dice.randint(1, 6)
        queries = [f"{dice.choice(questions)} n{number}x{place}" for place in range(size)]
        fault = dice.choice(kinds) if dice.random() < _FAULTY else None
        times = _EVERY_TIME if dice.random() < 0.3 else dice.randint(1, 2)
        deadline = DEADLINES[dice.random() < 0.25]
        replicas = dice.random() < 0.5
        k = dice.randint(1, 5)
        calls.append(Call(number, tuple(queries), k, deadline, replicas, fault, times))
    return calls


class Clients:
    """Clients that threads share: one for each deadline, with one address and with both."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._of = {
            (replicas, deadline): HttpRetriever(
                HttpConfig(
                    tuple(urls) if replicas else (urls[0],),
                    deadline=deadline,
                    attempt_seconds=deadline / 3,
                    backoff=0.02,
                    max_backoff=0.2,
                    max_queries=4,
                )
            )
            for replicas in (False, True)
            for deadline in DEADLINES
        }

    def make(self, call: Call, expected: list[list[Document]]) -> Ended:
        client = self._of[call.replicas, call.deadline]
        began = time.monotonic()
        detail = ""
        try:
            found = client.search(call.queries, call.k)
        except RetrieverError as error:
            result, detail = "error", str(error)
        except Exception as error:
            result, detail = type(error).__name__, str(error)
        else:
            result = "right" if found == expected else "wrong"
        return Ended(call, result, began, time.monotonic() - began, detail)

    def close(self) -> None:
        for client in self._of.values():
            client.close()


class Outages:
    """Kills servers and closes addresses while calls are made, each at its share of the calls."""

    def __init__(
        self, servers: Sequence[ServerProcess], proxies: Sequence[Proxy], planned: Iterator[float]
    ) -> None:
        self._servers, self._proxies, self._planned = servers, proxies, planned
        self.past: list[Outage] = []
        self._stop = threading.Event()
        self.progress = 0.0
        thread = ThreadPoolExecutor(1)
        self._done = thread.submit(self._run)
        thread.shutdown(wait=False)

    def _run(self) -> None:
        for number, share in enumerate(self._planned):
            while self.progress < share:
                if self._stop.wait(0.005):
                    return
            server = number // 2 % len(self._servers)
            began = time.monotonic()
            if number % 2:
                kind = "connection refused"
                self._proxies[server].pause()
                self._stop.wait(0.3)
                self._proxies[server].resume()
            else:
                kind = "kill -9 and restart"
                self._servers[server].kill()
                self._servers[server].start()
            self.past.append(Outage(kind, server, began, time.monotonic()))

    def end(self) -> None:
        """Raises what went wrong with them."""
        self._stop.set()
        self._done.result()


def _sockets() -> set[tuple[object, object]]:
    """The ends of this process's TCP connections."""
    return {(one.laddr, one.raddr) for one in psutil.Process().net_connections("tcp")}


def run(count: int, threads: int, seed: int, slack: float, outages: int, folder: Path) -> Report:
    """Make the calls; `outages` of them kill a server, as many refuse connections."""
    before = _sockets()  # of whatever else runs in this process
    index, questions = save_index(folder / "index")
    calls = plan_calls(count, questions, seed)
    expected = [index.search(call.queries, call.k) for call in calls]
    faults = Faults({c.number: (c.fault, c.times) for c in calls if c.fault is not None}, seed)
    servers = [ServerProcess(folder / "index") for _ in range(2)]
    proxies = [Proxy(faults, HANDLERS, server.get_port) for server in servers]
    clients = Clients([proxy.url for proxy in proxies])
    planned = iter([(number + 0.5) / (2 * outages) for number in range(2 * outages)])
    control = Outages(servers, proxies, planned)
    ended: list[Ended] = []
    stalls = Stalls()

    def make(call: Call) -> None:
        ended.append(clients.make(call, expected[call.number]))
        control.progress = len(ended) / count

    began = time.monotonic()
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(make, calls))
        seconds = time.monotonic() - began
    finally:
        stalls.end()
        control.end()
    report = count_up(ended, faults, control.past, stalls, slack)
    report.seconds = seconds
    report.bad += check_after(index, questions, servers, ended)
    clients.close()
    for proxy in proxies:
        proxy.close()
    patience = time.monotonic() + 10  # a connection's thread notices that it was closed
    while (left := _sockets() - before) and time.monotonic() < patience:
        time.sleep(0.05)
    report.sockets_left = len(left)
    for server in servers:
        server.stop()
    return report


def check_after(
    index: Retriever, questions: Sequence[str], servers: Sequence[ServerProcess], ended: list[Ended]
) -> list[str]:
    """Whether the servers still answer rightly, and every call has ended once."""
    bad = []
    numbers = sorted(end.call.number for end in ended)
    if numbers != list(range(len(numbers))):
        bad.append("a call ended twice or never")
    for server in servers:
        after = HttpRetriever(server.url)
        if after.search(questions[:50], 3) != index.search(questions[:50], 3):
            bad.append("a server answers wrongly after it all")
        after.close()
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slack", type=float, default=0.5, help="seconds beyond the deadline")
    parser.add_argument("--outages", type=int, default=12, help="kills, and refusals")
    parser.add_argument("--report", type=Path, help="a JSON file for all of it")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        report = run(
            arguments.requests,
            arguments.threads,
            arguments.seed,
            arguments.slack,
            arguments.outages,
            Path(folder),
        )
    plain: dict[str, Any] = asdict(report)
    if arguments.report:
        arguments.report.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    print({name: value for name, value in plain.items() if name not in ("rows", "bad")})
    print("\n".join(report.bad[:20]))
    sys.exit(bool(report.bad))


if __name__ == "__main__":
    main()
