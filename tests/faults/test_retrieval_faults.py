"""Faulty networks, killed servers, floods: the harness, and a test for each bug it found."""

from __future__ import annotations

import hmac
import json
import logging
import socket
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refine_env.retrieval import Retriever, RetrieverError
from refine_env.retrieval.http import HttpRetriever
from refine_env.retrieval.wire import CHECK_HEADER, check_of, read_entry
from tests.faults import retrieval_floods as floods
from tests.faults import retrieval_limits as limits
from tests.faults.retrieval_answers import HANDLERS
from tests.faults.retrieval_counts import Call, Ended, Outage, Stalls, count_up
from tests.faults.retrieval_faults import plan_calls, run
from tests.faults.retrieval_proxy import Faults
from tests.faults.retrieval_server import save_index
from tests.retrieval.servers import Engine, Scripted, hang, response, result, running

REFUSAL = response(400, b"{}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Retriever, list[str]]:
    folder = tmp_path_factory.mktemp("index") / "index"
    return folder, *save_index(folder)


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
def test_every_call_ends_rightly_or_in_a_retriever_error_within_its_deadline(
    tmp_path: Path,
) -> None:
    report = run(300, threads=16, seed=2, slack=30.0, outages=1, folder=tmp_path)
    assert report.bad == []
    assert report.ends == report.calls == 300
    assert report.kills == 1
    assert report.sockets_left == 0
    kinds = ["kill -9 and restart", "connection refused", *HANDLERS]
    assert [kind for kind in kinds if not report.rows[kind].hit] == []
    assert sum(row.right for row in report.rows.values()) > 100


def test_the_same_seed_plans_the_same_calls() -> None:
    questions = ["who", "where"]
    assert plan_calls(50, questions, 1) == plan_calls(50, questions, 1)
    assert plan_calls(50, questions, 1) != plan_calls(50, questions, 2)


def ended(number: int, result: str, seconds: float, fault: str | None = None) -> Ended:
    return Ended(Call(number, ("q",), 1, 0.5, False, fault, 1), result, 10.0, seconds)


def test_the_count_shows_what_is_wrong_late_or_hit_by_an_outage() -> None:
    stalls = Stalls()
    stalls.end()
    faults = Faults({0: ("hang", 1), 1: ("cut", 1)})
    faults.take(0)
    ends = [
        ended(0, "right", 0.9, "hang"),
        ended(1, "wrong", 0.1, "cut"),
        ended(2, "KeyError", 5.0),
    ]
    outage = Outage("kill -9 and restart", 0, 14.0, 20.0)
    report = count_up(ends, faults, [outage], stalls, 0.5)
    assert report.rows["hang"].right == 1
    assert report.rows["cut"].hit == 0  # it was planned and did not come to it
    assert report.rows["none of its own"].wrong == 1
    killed = report.rows["kill -9 and restart"]
    assert (killed.hit, killed.wrong, killed.late) == (1, 1, 1)
    assert [line.split(":")[0] for line in report.bad] == ["call 1 (cut)", "call 2 (None)"]


def titles(retriever: HttpRetriever, query: str = "q") -> list[str]:
    return [document.title for document in retriever.search([query], 3)[0]]


def checked(query: str, body: bytes) -> bytes:
    """An answer of our server to a client that asks this."""
    asked = {"queries": [query], "topk": 3, "return_scores": True}
    check = check_of(zlib.crc32(json.dumps(asked).encode()), body)
    return response(200, body, f"{CHECK_HEADER}: {check}")


def test_the_answer_to_another_request_was_taken_for_the_right_one() -> None:
    oslo, bergen = checked("oslo", result("Oslo")), checked("bergen", result("Bergen"))
    with Scripted(oslo, oslo, bergen) as server:
        assert titles(HttpRetriever(server.url), "bergen") == ["Bergen"]
        assert len(server.requests) == 3


def test_an_answer_changed_on_its_way_was_taken_for_the_right_one() -> None:
    right = checked("q", result("Oslo", "Bergen"))
    changed = right.replace(result("Oslo", "Bergen"), result("Bergen", "Oslo"))
    assert len(changed) == len(right)
    with Scripted(changed, right) as server:
        assert titles(HttpRetriever(server.url)) == ["Oslo", "Bergen"]


def test_every_answer_of_the_server_carries_its_check() -> None:
    with running(Engine()) as server:
        body = b'{"queries": ["q"], "topk": 2}'
        for _ in range(2):  # searched, then kept
            answer = server.post(body)
            assert answer.headers[CHECK_HEADER] == check_of(zlib.crc32(body), answer.content)


def test_a_second_answer_on_a_connection_was_taken_for_that_to_the_next_request() -> None:
    def twice(connection: socket.socket) -> None:
        connection.sendall(response(200, result("Oslo")) * 2)
        hang(connection)

    with Scripted(twice, response(200, result("Bergen"))) as server:
        retriever = HttpRetriever(server.url)
        assert titles(retriever, "oslo") == ["Oslo"]
        assert titles(retriever, "bergen") == ["Bergen"]


def test_connections_are_kept_where_nothing_follows_an_answer() -> None:
    with running(Engine()) as server:
        retriever = HttpRetriever(server.url)
        before = len(server.server.server_state.connections)
        for number in range(5):
            retriever.search([f"q{number}"], 1)
        assert len(server.server.server_state.connections) == before + 1
        retriever.close()


@pytest.mark.parametrize("score", [10**400, -(10**400)], ids=["large", "below 0"])
def test_a_score_that_no_float_can_hold_was_an_overflow_error(score: int) -> None:
    body = json.dumps({"result": [[{"document": {"contents": "x"}, "score": score}]]}).encode()
    with (
        Scripted(response(200, body), REFUSAL) as server,
        pytest.raises(RetrieverError, match="refused"),
    ):
        titles(HttpRetriever(server.url))


def test_an_id_with_half_a_surrogate_pair_could_be_written_nowhere() -> None:
    entry = json.loads('{"id": "a\\ud800", "contents": "x"}')
    assert read_entry(entry).id == "a\ufffd"


def test_a_small_request_could_ask_for_a_million_documents() -> None:
    with running(Engine(), max_documents=12) as server:
        refused = server.post({"queries": ["q"] * 5, "topk": 3})
        assert (refused.status_code, refused.json()["max_queries"]) == (413, 4)
        assert server.post({"queries": ["q"], "topk": 13}).status_code == 200
        texts = [f"q{number}" for number in range(10)]
        found = HttpRetriever(server.url).search(texts, 3)  # the client learns, and splits
        assert [documents[0].id for documents in found] == [f"{text}-0" for text in texts]


def test_large_requests_that_did_not_end_filled_the_memory(saved: Any) -> None:
    finding = floods.bodies(saved[0], clients=6, megabytes=32)
    assert finding.holds, finding


def test_silent_connections_locked_others_out_for_ever(saved: Any) -> None:
    finding = floods.silent_connections(saved[0], count=20)
    assert finding.holds, finding


def test_sigterm_lets_requests_under_way_be_answered(saved: Any) -> None:
    index, engine, questions = saved
    finding = limits.graceful_stop(index, engine, questions, 16)
    assert finding.holds, finding


def test_each_bound_is_a_4xx_and_no_error_tells_where_things_are(saved: Any) -> None:
    for finding in limits.bounds(saved[0]):
        assert finding.holds, finding


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    real = hmac.compare_digest

    def compare(given: bytes, right: bytes) -> bool:
        compared.append(given)
        return real(given, right)

    monkeypatch.setenv("REFINE_ENV_TOKEN", "s3cret")
    monkeypatch.setattr(hmac, "compare_digest", compare)
    asked = ["Bearer s3cret", "Bearer s3cre", "", "Bearer \xe9", "b" * 5000]
    with running(Engine()) as server:
        statuses = [server.post({"queries": ["q"]}, Authorization=asked[0]).status_code]
        for value in asked[1:]:
            raw = value.encode("latin-1")
            answer = server._http.post(
                "/retrieve", content=b"{}", headers=[(b"Authorization", raw)]
            )
            statuses.append(answer.status_code)
    assert statuses == [200, 401, 401, 401, 401]
    assert compared == [value.encode("latin-1") for value in asked]


@pytest.mark.slow
def test_all_limits_and_floods(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["retrieval_limits"])
    with pytest.raises(SystemExit) as ended_with:
        limits.main()
    assert ended_with.value.code == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
def test_three_thousand_calls(tmp_path: Path) -> None:
    report = run(3000, threads=16, seed=5, slack=30.0, outages=4, folder=tmp_path)
    assert report.bad == []
    assert (report.ends, report.kills) == (3000, 4)
