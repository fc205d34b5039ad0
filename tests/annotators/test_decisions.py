"""The runtime `decisions`: the dialects as documented, what a server may do wrong, several questions in a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mollm.annotators import _http
from mollm.annotators._dialects import SUM_TOLERANCE, BadReply, Choice, dialects_at, read, row
from mollm.annotators.decisions import MOST_KEPT, Decisions
from mollm.errors import AnnotatorError, AnnotatorUnavailable, ConfigError
from mollm.failures import kind_of, retried
from mollm.prompts import Shot
from mollm.records import LabelSet
from tests.annotators.decision_server import (
    DIALECTS,
    LABELS,
    OPENAI,
    PERPLEXITY,
    SGLANG,
    SYSTEM_ONE,
    DecisionServer,
    Json,
    decided,
    refusal,
)

REPLIES = sorted((Path(__file__).parent / "decision_replies").glob("*.json"))
MOOD = LabelSet(("angry", "calm"))


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_documented_requests_are_sent_and_documented_replies_are_read(path: Path) -> None:
    """Each file says whether a real server gave it or we wrote it from documentation."""
    known = json.loads(path.read_text(encoding="utf-8"))
    asked = Choice(
        "q", "Which team should handle this?", ("billing", "technical", "other"), ("Charges, invoices, refunds", "", "")
    )
    root, dialects = dialects_at(known["url"])
    bodies = [one.body("m", "I was charged twice for the same order.", [asked]) for one in dialects]
    assert (root, {one.path for one in dialects}) == ("http://host", {known["url"].removeprefix("http://host")})
    assert known["request"] in bodies
    said = read(known["reply"], [asked])
    probs = said.probs[0]
    assert not isinstance(probs, BadReply)
    expected = np.array(known["probabilities"])
    np.testing.assert_allclose(row(probs, asked.options), expected / expected.sum(), atol=1e-6)
    assert said.prompt_tokens == known["prompt_tokens"]
    assert said.mass[0] == pytest.approx(known["label_mass"] or float("nan"), nan_ok=True)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_is_found_and_read(dialect: str) -> None:
    server = DecisionServer(dialect)
    with decided(server, api_key_env=None) as annotator:
        money, sports = annotator.annotate(["all about money", "sports again"])
        said = annotator.describe()
    assert (money.label_probs.argmax(), sports.label_probs.argmax()) == (1, 0)
    assert money.prompt_tokens > 0
    assert "several questions in a request" in said
    names = {SYSTEM_ONE: "System One", OPENAI: "OpenAI's", SGLANG: "SGLang's", PERPLEXITY: "System One"}
    assert names[dialect] in said


@pytest.mark.parametrize(
    ("url", "root", "path"),
    [
        ("http://h/v1", "http://h", "/v1/systemone"), ("http://h", "http://h", "/v1/systemone"),
        ("http://h/v1/decisions", "http://h", "/v1/decisions"), ("http://h/v2/systemone/", "http://h/v2", "/systemone"),
        ("http://h/api/alpha/decisions", "http://h/api/alpha", "/decisions"),
    ],
)  # fmt: skip
def test_an_address_may_name_its_endpoint(url: str, root: str, path: str) -> None:
    found, dialects = dialects_at(url)
    assert (found, dialects[0].path) == (root, path)


def leaves_out(text: str, answer: Json) -> Json:
    answer["probabilities"].pop("money", None)
    return answer


def sums_short(text: str, answer: Json) -> Json:
    return answer | {"probabilities": {name: 0.7 * share for name, share in answer["probabilities"].items()}}


def without(text: str, answer: Json) -> Json:
    return {key: value for key, value in answer.items() if key != "probabilities"}


def refused(text: str, answer: Json) -> Json:
    return {"type": "refusal", "name": answer["name"]}


def in_words(text: str, answer: Json) -> Json:
    return answer | {"probabilities": dict.fromkeys(answer["probabilities"], "high")}


SPOILT = {
    "leaves out": (leaves_out, "the decision server left out 'money'"),
    "sums to .7": (sums_short, "the decision server's probabilities sum to 0.7, not to 1"),
    "no probabilities": (without, "the decision server answered without probabilities"),
    "refusal": (refused, "the decision server refused to decide on this text"),
    "words": (in_words, "the decision server's probabilities are not numbers from 0 to 1"),
}


@pytest.mark.parametrize("dialect", [SYSTEM_ONE, OPENAI])
@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_answer_is_an_abstention_that_says_why(name: str, dialect: str) -> None:
    spoils, why = SPOILT[name]
    server = DecisionServer(dialect, spoils=lambda text, answer: spoils(text, answer) if "bad" in text else answer)
    with decided(server) as annotator:
        good, bad = annotator.annotate(["all about sports", "bad money"])
    assert (good.error, good.label_probs.argmax()) == ("", 0)
    assert (bad.error, bad.abstained) == (why, 1.0)
    assert kind_of(bad.error) == "no decision"
    assert retried("no decision")


@pytest.mark.parametrize("dialect", [SYSTEM_ONE, OPENAI])
@pytest.mark.parametrize("name", SPOILT)
def test_a_server_that_always_answers_so_is_not_opened(name: str, dialect: str) -> None:
    """One line at the start, and the other members go on (see `jobs._ask`)."""
    spoils, why = SPOILT[name]
    with pytest.raises(AnnotatorError) as caught:
        decided(DecisionServer(dialect, spoils=spoils))
    assert not isinstance(caught.value, AnnotatorUnavailable)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_does_not_read_the_text_is_not_opened() -> None:
    with pytest.raises(AnnotatorError, match="the same probabilities: it does not read it"):
        decided(DecisionServer(reads=False))


def test_a_server_without_such_an_endpoint_says_what_was_tried() -> None:
    with pytest.raises(AnnotatorError, match=r"serves no decisions; System One: .*404.*; OpenAI's decisions: .*404"):
        decided(DecisionServer(broken=lambda request: refusal(404, "Not Found")))


def test_a_refused_key_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def denies(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return refusal(401, "invalid key")

    monkeypatch.setenv("DECIDER_KEY", "secret-1")
    with pytest.raises(AnnotatorError, match=r"401.*invalid key") as caught:
        decided(DecisionServer(broken=denies), api_key_env="DECIDER_KEY")
    assert seen == ["Bearer secret-1"]
    assert "secret-1" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_a_failing_server_is_away(status: int) -> None:
    with pytest.raises(AnnotatorUnavailable, match=str(status)):
        decided(DecisionServer(broken=lambda request: refusal(status, "busy")))


def test_a_hanging_server_is_away_and_one_text_that_fails_alone_abstains() -> None:
    def hangs(request: httpx.Request) -> httpx.Response | None:
        if b"hang" in request.content or gone[0]:
            raise httpx.ReadTimeout("timed out")
        return None

    gone = [False]
    with decided(DecisionServer(broken=hangs)) as annotator:
        failed, good = annotator.annotate(["hang here", "money"])
        assert failed.error.startswith("the server failed: ")
        assert good.label_probs.argmax() == 1
        annotator.server.each[0].circuit.succeeded()
        gone[0] = True
        with pytest.raises(AnnotatorUnavailable, match="did not answer within"):
            annotator.annotate(["sports", "money"])


def test_a_refused_text_abstains_alone() -> None:
    def picky(request: httpx.Request) -> httpx.Response | None:
        return refusal(400, "input must not be blank") if json.loads(request.content)["state"] == "" else None

    with decided(DecisionServer(broken=picky)) as annotator:
        blank, good = annotator.annotate(["", "money"])
    assert "refused (400): input must not be blank" in blank.error
    assert good.error == ""


def test_a_text_longer_than_the_window_is_cut_and_said_so() -> None:
    with decided(DecisionServer(window=40), orders=2) as annotator:
        long, short = annotator.annotate(["money " + "word " * 400, "money"])
    assert (long.truncated, short.truncated) == (True, False)
    assert long.error == ""
    assert long.label_probs.argmax() == 1


@pytest.mark.parametrize("liking", [0.0, 4.0])
def test_a_position_bias_asks_for_two_orders_in_one_request(liking: float) -> None:
    server = DecisionServer(first=liking)
    with decided(server) as annotator:
        server.requests.clear()
        undecided, clear = annotator.annotate(["nothing of note", "all about money"])
    assert [len(body["questions"]) for body in server.requests] == [2 if liking else 1] * 2
    assert undecided.label_probs[0] == pytest.approx(undecided.label_probs[2], rel=0.01)
    assert clear.label_probs.argmax() == 1
    assert clear.calls == 1


def test_a_content_free_prior_is_taken_off() -> None:
    with decided(DecisionServer(first=2.0), orders=1, prior="content_free") as annotator:
        nothing = annotator.annotate(["nothing of note"])[0]
    np.testing.assert_allclose(nothing.label_probs, 1 / 3, atol=1e-6)


def test_other_decisions_of_a_project_stand_in_the_same_request() -> None:
    """Each is answered as if it had been asked alone, and all tokens are counted once."""
    server = DecisionServer()
    texts = ["angry about money", "calm sports"]
    with decided(server) as topic, decided(server, MOOD) as mood:
        alone = [topic.annotate(texts), mood.annotate(texts)]
        topic.ask_along([mood])
        mood.ask_along([topic])
        server.requests.clear()
        topics, moods = topic.annotate(texts), mood.annotate(texts)
        assert [len(body["questions"]) for body in server.requests] == [2, 2]
        assert not topic.kept
        assert not mood.kept, "an answer is given once"
    for together, apart in zip((topics, moods), alone, strict=True):
        for one, other in zip(together, apart, strict=True):
            np.testing.assert_allclose(one.label_probs, other.label_probs, atol=1e-9)
    read_ = sum(len(json.dumps(body).split()) for body in server.requests)
    assert sum(answer.prompt_tokens for answer in [*topics, *moods]) == read_
    assert sum(answer.calls for answer in [*topics, *moods]) == len(texts)


def test_the_same_question_is_asked_once() -> None:
    """Two that are asked the same question: one request a text answers both."""
    listed = LabelSet((*LABELS.names, "None of these"))
    server = DecisionServer()
    with decided(server, listed) as first, decided(server, listed) as second:
        first.ask_along([second])
        second.ask_along([first])
        server.requests.clear()
        one, other = first.annotate(["about money"]), second.annotate(["about money"])
    assert len(server.requests) == 1
    np.testing.assert_array_equal(one[0].label_probs, other[0].label_probs)
    assert (other[0].prompt_tokens, other[0].calls) == (0, 0)


@pytest.mark.parametrize("server", [DecisionServer(joint=True), DecisionServer(several=1)], ids=["joint", "one only"])
def test_questions_that_change_each_other_are_asked_apart(server: DecisionServer) -> None:
    with decided(server) as topic, decided(server, MOOD) as mood:
        assert "one question a request" in topic.describe()
        topic.ask_along([mood])
        server.requests.clear()
        topic.annotate(["angry about money"])
    assert [len(body["questions"]) for body in server.requests] == [1]


def test_a_failing_companion_takes_nobody_along() -> None:
    def dislikes_company(request: httpx.Request) -> httpx.Response | None:
        return refusal(400, "no moods today") if b"angry" in request.content and moody[0] else None

    moody = [False]
    server = DecisionServer(broken=dislikes_company)
    with decided(server) as topic, decided(server, MOOD) as mood:
        topic.ask_along([mood])
        moody[0] = True
        assert topic.annotate(["about money"])[0].label_probs.argmax() == 1
        assert not mood.kept


def test_only_the_same_model_at_the_same_address_is_company() -> None:
    server = DecisionServer()
    with decided(server) as one, decided(server, model="other") as other:
        one.ask_along([other, one])
        assert one.company == ()


def test_kept_answers_are_bounded() -> None:
    with decided(DecisionServer()) as annotator:
        answer = annotator.annotate(["money"])[0]
        for n in range(MOST_KEPT + 5):
            annotator._keep(str(n), answer)
        assert len(annotator.kept) == MOST_KEPT


def test_instructions_shots_and_descriptions_are_sent() -> None:
    server = DecisionServer()
    described = LabelSet(LABELS.names, descriptions=("games", "", ""))
    with decided(server, described, (Shot("a goal", "sports"),), shots=1):
        question = server.requests[0]["questions"]["q"]
    assert question["instructions"] == "Name the topic.\n\nText: a goal\nAnswer: sports"
    assert question["criteria"] == {"sports": "games", "money": None, "science": None}


@pytest.mark.parametrize(
    "settings", [{"mode": "sample"}, {"coding": "codes"}, {"prompt": "plain"}, {"max_tokens": 4096}, {"url": None}]
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"leave it out|needs `url`"):
        decided(DecisionServer(), **settings)


def test_no_usage_is_no_tokens() -> None:
    with decided(DecisionServer(counts=False)) as annotator:
        assert annotator.annotate(["money"])[0].prompt_tokens == 0


def test_a_hang_is_waited_for_less_long_than_an_llm_that_writes() -> None:
    with decided(DecisionServer()) as short, decided(DecisionServer(), timeout=99) as long:
        assert (short.server.each[0].http.timeout.read, long.server.each[0].http.timeout.read) == (30.0, 99.0)
    assert 529 in _http.RETRIABLE


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["answers", "q", "type", "name", "probabilities", "value", "probability", "a", "b", "usage",
                             "input_tokens", "diagnostics", "label_mass"]), inner, max_size=4),
        max_leaves=12,
    )
)  # fmt: skip
def test_any_json_is_read_or_refused_with_a_reason(reply: Any) -> None:
    """No reply raises anything but BadReply, and what is read is a distribution."""
    question = Choice("q", "?", ("a", "b"), ("", ""))
    try:
        said = read(reply if isinstance(reply, dict) else {}, [question])
    except BadReply:
        return
    probs = said.probs[0]
    if not isinstance(probs, BadReply):
        assert abs(sum(probs.values()) - 1) <= SUM_TOLERANCE
        assert row(probs, ("b", "a")).sum() == pytest.approx(1)
    assert said.prompt_tokens >= 0


def test_it_is_a_runtime_of_its_own() -> None:
    assert Decisions.runtime == "decisions"
    assert Decisions.asks_along
