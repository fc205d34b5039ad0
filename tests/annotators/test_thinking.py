"""A model that thinks before it answers: switched off where the server can do that, else refused in words."""

from __future__ import annotations

import httpx
import pytest

from mollm.annotators._thinking import EMPTY, OFF, Switch, Thinks, refuse_thought, said_of
from mollm.errors import AnnotatorError
from tests.annotators.fake_server import AFTER, ALL, LLAMA_CPP, OLLAMA, PLAIN, FakeServer, asked

TEXTS = ["all about sports", "all about money"]
STOPPED = {"chat_template_kwargs", "reasoning_effort", "prefill", "/no_think"}
NAMES = {"prefill": "an empty thought"}


@pytest.mark.parametrize("can", [OLLAMA, PLAIN], ids=["top", "samples"])
@pytest.mark.parametrize("thinks", sorted(STOPPED))
@pytest.mark.parametrize("apart", [False, True])
def test_thinking_is_switched_off_as_the_server_can(can: frozenset[str], thinks: str, apart: bool) -> None:
    server = FakeServer(can, thinks=thinks, apart=apart)
    with asked(server, prompt="chat", orders=1, samples=2) as annotator:
        assert f"thinking switched off ({NAMES.get(thinks, thinks)})" in annotator.describe()
        if thinks == "/no_think":
            assert "samples" in annotator.describe(), "the empty thought comes first: no token after it can be scored"
        answers = annotator.annotate(TEXTS)
    assert [answer.error for answer in answers] == ["", ""]
    assert [answer.label_probs.argmax() for answer in answers] == [0, 1]


@pytest.mark.parametrize("can", [OLLAMA, PLAIN], ids=["top", "samples"])
def test_a_model_that_cannot_be_stopped_is_refused_in_words(can: frozenset[str]) -> None:
    with pytest.raises(AnnotatorError, match=r"thinks before it answers.*does not think"):
        asked(FakeServer(can, thinks=""), prompt="chat", orders=1, samples=2)


def test_other_models_are_asked_nothing_more() -> None:
    """No parameter is sent that a server might refuse, and no probe more."""
    server = FakeServer(OLLAMA)
    with asked(server, prompt="chat", orders=1) as annotator:
        assert "thinking" not in annotator.describe()
        annotator.annotate(TEXTS)
    assert not any(
        {"chat_template_kwargs", "reasoning_effort", "continue_final_message"} & body.keys()
        for _, body in server.requests
    )


def test_a_server_that_refuses_a_parameter_is_asked_the_next_way() -> None:
    def strict(request: httpx.Request, body: dict[str, object]) -> httpx.Response | None:
        unknown = "chat_template_kwargs" in body
        return httpx.Response(400, json={"error": {"message": "unknown parameter"}}) if unknown else None

    server = FakeServer(OLLAMA, thinks="reasoning_effort", broken=strict)
    with asked(server, prompt="chat", orders=1) as annotator:
        assert "reasoning_effort" in annotator.describe()


@pytest.mark.parametrize("can", [ALL, LLAMA_CPP], ids=["vllm", "llama.cpp"])
def test_a_template_that_opens_a_thought_gets_an_empty_one(
    can: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of DeepSeek-R1: the model's turn begins inside a thought, whatever the request says."""
    server, rendered = FakeServer(can), FakeServer.rendered

    def opening(messages: list[dict[str, str]]) -> str:
        return rendered(messages) + "<think>\n" * (messages[-1]["role"] == "user")

    monkeypatch.setattr(server, "rendered", opening)
    with asked(server, prompt="chat", orders=1) as annotator:
        assert "an empty thought" in annotator.describe()
        answers = annotator.annotate(TEXTS)
        sent = [server.prompts(body["prompt"])[0] for path, body in server.requests if path == "/v1/completions"]
    assert [answer.label_probs.argmax() for answer in answers] == [0, 1]
    assert sent[-1].count("<think>") == sent[-1].count("</think>") == 1


def test_what_opens_a_thought() -> None:
    for begun in ("<think>", " <think>\nOkay", "<th", "[THINK]", "<|channel|>analysis"):
        with pytest.raises(Thinks):
            refuse_thought(begun)
    for begun in ("sports", "", "<", "think", "thinking about it"):
        refuse_thought(begun)
    assert said_of({"message": {"content": EMPTY + "sports"}}) == "sports"
    assert said_of({"message": {"content": None}}) == ""
    with pytest.raises(Thinks):
        said_of({"message": {"content": None, "reasoning": "Hm"}})
    switch = Switch("x", {"chat_template_kwargs": OFF, "continue_final_message": True}, prefill=EMPTY)
    assert switch.template() == {"chat_template_kwargs": OFF}
    assert switch.after(AFTER) == AFTER + EMPTY
    assert switch.after(AFTER + "<think>\n") == AFTER + "<think>\n" + EMPTY.removeprefix("<think>")
