"""The HTTP runtime and texts that are longer than the window."""

from __future__ import annotations

from typing import Any

import httpx

from mollm.records import LabelSet
from tests.annotators.fake_server import FakeServer, asked, every_scoring_way, every_way

SHARED = LabelSet(("billing sports late", "billing sports early", "billing money late", "other"))


@every_way
def test_a_window_smaller_than_the_server_says(can: frozenset[str]) -> None:
    """It refuses with a context overflow all the same: the text is halved until it fits, and that is counted."""
    server = FakeServer(can)

    def overflow(request: httpx.Request, body: dict[str, Any]) -> httpx.Response | None:
        if not request.url.path.endswith("completions") or max(map(len, server.prompts(body["prompt"]))) < 400:
            return None
        return httpx.Response(400, json={"error": {"message": "request exceeds the available context size"}})

    with asked(server, prompt="plain", orders=1, votes="closed", samples=2, windows=1) as annotator:
        server.broken = overflow
        long, short = annotator.annotate(["sports " * 80, "all about money"])
    assert (long.truncated, short.truncated) == (True, False)
    assert (long.label_probs.argmax(), short.label_probs.argmax()) == (0, 1)


@every_way
def test_a_text_of_any_length_is_cut_on_its_own_side(can: frozenset[str]) -> None:
    server = FakeServer(can)
    with asked(server, votes="closed", prompt="plain") as annotator:
        server.requests.clear()
        long, short = annotator.annotate(["all about sports " * 50_000, "all about money"])
    assert (long.truncated, short.truncated) == (True, False)
    assert (long.label_probs.argmax(), short.label_probs.argmax()) == (0, 1)
    sent = [body["prompt"] for path, body in server.requests if path == "/v1/completions"]
    flat = [prompt for prompts in sent for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
    assert all(prompt.startswith("Name the topic.") and prompt.endswith("\nOutput:") for prompt in flat)


@every_scoring_way
def test_a_long_text_leaves_room_for_the_deepest_place_of_the_labels(can: frozenset[str]) -> None:
    """Labels that begin alike are asked a few tokens on: the window, which the text fills, ends behind those."""
    server = FakeServer(can, window=120, clamps=True)
    how = {"votes": "closed", "prompt": "plain", "orders": 1, "coding": "labels", "windows": 1}
    with asked(server, SHARED, max_tokens=120, **how) as annotator:
        for length in range(40, 110):
            long, short = annotator.annotate(["billing sports " * length, "other"])
            assert not long.error
            assert short.label_probs.argmax() == 3
    assert long.truncated


def test_a_text_is_cut_to_what_the_window_leaves_and_no_request_is_refused() -> None:
    server = FakeServer(window=120, clamps=True)
    with asked(server, SHARED, votes="closed", prompt="plain", orders=1, max_tokens=120, coding="labels") as annotator:
        before = len(server.requests)
        (long,) = annotator.annotate(["billing sports " * 400])
        prompts = [body["prompt"] for path, body in server.requests[before:] if path == "/v1/completions"]
    assert long.truncated
    assert len(prompts) <= long.calls
    lengths = [len(server.tokens(text)) for sent in prompts for text in server.prompts(sent)]
    assert 110 < max(lengths) < 120
