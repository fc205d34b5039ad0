"""Which members of a panel need a llama.cpp server of ours, and where it is found."""

from __future__ import annotations

from pathlib import Path

from mollm.config import AnnotatorConfig
from mollm_backend import served
from mollm_backend.served import Served


def member(name: str, **more: object) -> AnnotatorConfig:
    return AnnotatorConfig.model_validate({"name": name, "runtime": "llama_cpp", "model": "small.gguf"} | more)


def test_members_share_the_server_of_their_model_and_its_longest_window() -> None:
    panel = [
        member("a"),
        member("b", max_tokens=2048),
        member("hub", model="org/name/f.gguf", revision="v1"),
        member("elsewhere", url="http://other:1"),
        member("here", runtime="transformers"),
    ]
    assert served.wanted(panel) == (
        Served("small.gguf", "small.gguf", 2048),
        Served("org/name/f.gguf", "org/name/f.gguf@v1", 1024),
    )


def test_an_address_is_noted_found_and_forgotten(tmp_path: Path) -> None:
    assert served.reached(member("a"), tmp_path) == member("a"), "nobody has noted anything yet"
    served.note(tmp_path, {"small.gguf": "http://127.0.0.1:9190"})
    found = served.reached(member("a"), tmp_path)
    assert (found.url, found.concurrency) == ("http://127.0.0.1:9190", served.SLOTS)
    for other in (member("b", model="other.gguf"), member("c", url="http://other:1"), member("d", runtime="openai")):
        assert served.reached(other, tmp_path) == other
    served.note(tmp_path, {})
    assert not served.reached(member("a"), tmp_path).url
