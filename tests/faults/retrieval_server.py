"""A search server in a process of its own, to be killed, stopped and measured.

    python -m tests.faults.retrieval_server <index folder> --port 8000 --settings '{"max_topk": 9}'

`refine_env.retrieval.server.serve` over a saved BM25 index, as `refine-env serve` runs it. With
`--delay` every call of the engine takes so many seconds longer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from refine_env.retrieval import Retriever, make_retriever
from refine_env.retrieval.bm25 import BM25Retriever
from refine_env.retrieval.server import ServerConfig, serve
from refine_env.types import Document

ROOT = Path(__file__).parents[2]
FAILING_QUERY = "what breaks the engine"
"""A slow engine fails at it, with a path in its message."""


def save_index(folder: Path) -> tuple[Retriever, list[str]]:
    """A BM25 index of a small MiniWiki in `folder`, opened, and the questions about it."""
    from refine_env.datasets import miniwiki  # not needed by the process of the server

    world = miniwiki.build("tiny", size=440, hops=(1, 2), world_seed=0)
    BM25Retriever.build(world.documents).save(folder)
    questions = [question.text for split in world.questions.values() for question in split]
    return make_retriever(f"bm25:{folder}"), questions


class SlowEngine:
    """A search engine whose every call takes longer."""

    def __init__(self, engine: Retriever, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self.index_id = "slow"

    def search(self, queries: Sequence[str], k: int) -> list[list[Document]]:
        time.sleep(self._seconds)
        if FAILING_QUERY in queries:
            raise FileNotFoundError("/srv/secret/index/postings.bin")
        return self._engine.search(queries, k)


class ServerProcess:
    """The server, started at once; `start` again after a `kill` takes the same port."""

    def __init__(self, index: Path, delay: float = 0.0, token: str = "", **settings: Any) -> None:
        self._index, self._delay, self._settings = index, delay, settings
        self._environment: Mapping[str, str] = os.environ | {"REFINE_ENV_TOKEN": token}
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get_port(self) -> int:
        return self.port

    def start(self) -> None:
        """Returns when it is ready. Raises `RuntimeError` when it ends instead."""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.faults.retrieval_server", str(self._index)),
                *("--port", str(self.port), "--delay", str(self._delay)),
                *("--settings", json.dumps(self._settings)),
            ],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if line.startswith("ready: "):
                self.port = int(line.rsplit(":", 1)[1].partition("/")[0])
                return
        raise RuntimeError(f"the server ended before it was ready: {said}")

    def kill(self) -> None:
        self.process.kill()
        self._wait()

    def stop(self) -> int:
        """Ask it to end; its exit code, below 0 the signal that it gives on after its work."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def sockets(self, status: str) -> list[Any]:
        """Its TCP sockets in a state of `psutil`, such as `LISTEN`."""
        found = psutil.Process(self.process.pid).net_connections("tcp")
        return [socket for socket in found if socket.status == status]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--settings", type=json.loads, default={})
    arguments = parser.parse_args()

    def build() -> Retriever:
        engine = make_retriever(f"bm25:{arguments.index}")
        return SlowEngine(engine, arguments.delay) if arguments.delay else engine

    config = ServerConfig(port=arguments.port, **arguments.settings)
    serve(build, config, lambda text: print(text, flush=True))


if __name__ == "__main__":
    main()
