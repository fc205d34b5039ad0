"""The HTTP runtime before a server that fails or serves another model."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from mollm.errors import AnnotatorError, AnnotatorUnavailable, ConfigError
from tests.annotators.failing import BUSY, CRASH, CUT, HTML, failing
from tests.annotators.fake_server import TEXTS, FakeServer, asked, every_scoring_way, every_way


@every_way
@pytest.mark.parametrize("reply", [HTML, CUT, BUSY, CRASH], ids=["html", "cut json", "429", "500"])
def test_passing_trouble_is_retried(reply: httpx.Response, can: frozenset[str]) -> None:
    server = FakeServer(can)
    with asked(server, prompt="plain") as annotator:
        server.broken = failing(reply, reply)
        answers = annotator.annotate(TEXTS)
    assert [int(answer.label_probs.argmax()) for answer in answers] == [0, 1, 2]


@every_way
@pytest.mark.parametrize("reply", [HTML, CUT, BUSY, CRASH], ids=["html", "cut json", "429", "500"])
def test_lasting_trouble_makes_the_annotator_unavailable(reply: httpx.Response, can: frozenset[str]) -> None:
    server = FakeServer(can)
    with asked(server, prompt="plain") as annotator:
        server.broken = failing(reply)
        with pytest.raises(AnnotatorUnavailable, match="http://fake"):
            annotator.annotate(TEXTS)


def test_a_server_that_dies_within_a_chunk_leaves_no_abstentions() -> None:
    """Texts that a dying server did not answer are asked again, not recorded as abstained."""
    server = FakeServer()
    with asked(server, votes="closed", prompt="plain", concurrency=1, batch_size=1, orders=1) as annotator:
        dead = [False]

        def die(request: httpx.Request, body: dict[str, Any]) -> httpx.Response | None:
            dead[0] = dead[0] or "second" in json.dumps(body)
            return CRASH if dead[0] else None

        server.broken = die
        with pytest.raises(AnnotatorUnavailable):
            annotator.annotate(["first", "second"])


@every_way
def test_one_text_that_breaks_the_server_does_not_stop_the_others(can: frozenset[str]) -> None:
    server = FakeServer(can)
    with asked(server, prompt="plain", concurrency=1) as annotator:
        server.broken = failing(CRASH, only="poison")
        answers = annotator.annotate([TEXTS[0], "poison", TEXTS[2]])
    assert [answer.abstained for answer in answers] == [0, 1, 0]
    assert "EngineDeadError" in answers[1].error
    assert answers[0].label_probs.argmax() == 0


@every_scoring_way
def test_a_prior_that_cannot_be_read_is_never_guessed(can: frozenset[str]) -> None:
    """A server that fails while it is asked what it says of no text: later, not with a flat prior for ever."""
    server = FakeServer(can)
    with asked(server, prompt="plain", prior="content_free", orders=1) as annotator:
        server.broken = failing(CRASH, only="N/A")
        with pytest.raises(AnnotatorUnavailable, match="EngineDeadError"):
            annotator.annotate(TEXTS)
        server.broken = failing()
        annotator.server.each[0].circuit.succeeded()
        assert annotator.annotate(TEXTS)[0].abstained == 0


def test_a_circuit_opens_and_closes_by_itself() -> None:
    server = FakeServer()
    with asked(server, prompt="plain") as annotator:
        now = [0.0]
        annotator.server.each[0].circuit.clock = lambda: now[0]
        server.broken = failing(CRASH)
        for _ in range(3):
            with pytest.raises(AnnotatorUnavailable):
                annotator.annotate(["a"])
        asked_before = len(server.requests)
        with pytest.raises(AnnotatorUnavailable, match="not asked for another"):
            annotator.annotate(["a"])
        assert len(server.requests) == asked_before
        server.broken = failing()
        now[0] = 1000.0
        assert annotator.annotate(TEXTS)[0].abstained == 0


def test_retry_after_is_obeyed() -> None:
    server, waits = FakeServer(), []
    with asked(server, prompt="plain") as annotator:
        annotator.server.each[0].sleep = waits.append
        server.broken = failing(httpx.Response(429, headers={"retry-after": "17"}), httpx.Response(503))
        annotator.annotate(["a"])
    assert waits[0] >= 17 > waits[1]


def test_a_long_retry_after_is_left_to_the_caller() -> None:
    server, waits = FakeServer(), []
    with asked(server, prompt="plain") as annotator:
        annotator.server.each[0].sleep = waits.append
        server.broken = failing(httpx.Response(429, headers={"retry-after": "3600"}))
        with pytest.raises(AnnotatorUnavailable):
            annotator.annotate(["a"])
    assert not waits


def test_nothing_listens_there() -> None:
    def refuse(request: httpx.Request, body: dict[str, Any]) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    with pytest.raises(AnnotatorUnavailable, match="cannot be reached"):
        asked(FakeServer(broken=refuse))


def test_another_model_is_served() -> None:
    with pytest.raises(AnnotatorError, match=r"serves \['other'\], not 'fake'"):
        asked(FakeServer(model="other"))


def test_another_model_answers() -> None:
    def impostor(request: httpx.Request, body: dict[str, Any]) -> httpx.Response | None:
        if not request.url.path.endswith("completions"):
            return None
        return httpx.Response(200, json={"model": "impostor", "choices": [{"text": "sports"}]})

    with pytest.raises(AnnotatorError, match="impostor"):
        asked(FakeServer(broken=impostor))


@every_way
def test_another_model_answers_half_way(can: frozenset[str]) -> None:
    """A proxy that changes the model under us: an error that names it, never answers of somebody else."""
    server = FakeServer(can)
    with asked(server, prompt="plain") as annotator:
        server.broken = failing(httpx.Response(200, json={"model": "impostor", "choices": [{"text": "sports"}]}))
        with pytest.raises(AnnotatorError, match="'impostor' answered"):
            annotator.annotate(TEXTS)


def test_a_wrong_key_says_so() -> None:
    with pytest.raises(AnnotatorError, match="401"):
        asked(FakeServer(broken=failing(httpx.Response(401, json={"error": "bad key"}), path="/v1/models")))


def test_a_missing_key_variable_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        asked(FakeServer(), api_key_env="NO_SUCH_KEY")
