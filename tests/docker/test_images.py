"""The images as they are written."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def instructions(name: str) -> list[tuple[str, str]]:
    """A Dockerfile as (instruction, arguments) pairs, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "docker" / name).read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return [(word, rest) for word, rest in pairs]


def test_the_images_run_the_commands_of_mollm_without_privileges_and_torch_is_in_one() -> None:
    web, worker = instructions("web.Dockerfile"), instructions("worker.Dockerfile")
    assert not any("torch" in rest.lower() for word, rest in web if word == "RUN")
    assert json.loads(dict(web)["CMD"]) == ["mollm", "web"]
    assert json.loads(dict(worker)["CMD"])[-1].endswith("exec mollm worker")
    for steps in (web, worker):
        assert [rest for word, rest in steps if word == "USER"] == ["1000:1000"]
    assert "/health" in dict(web)["HEALTHCHECK"]


def test_both_images_have_the_same_pinned_base_and_it_is_an_argument() -> None:
    bases = []
    for name in ("web.Dockerfile", "worker.Dockerfile"):
        steps = instructions(name)
        assert [rest.split()[0] for word, rest in steps if word == "FROM"] == ["${BASE}", "${BASE}"]
        assert steps[0][0] == "ARG"
        bases.append(steps[0][1])
    assert bases[0] == bases[1]
    assert re.fullmatch(r"BASE=python:3\.1[123]\.\d+-slim-[a-z]+", bases[0]), "pinned to a release"


def test_the_images_user_has_a_name_and_a_home() -> None:
    for name in ("web.Dockerfile", "worker.Dockerfile"):
        steps = instructions(name)
        begins = max(n for n, (word, _rest) in enumerate(steps) if word == "FROM")  # before it is what builds
        last = steps[begins:]
        given = dict(part.split("=", 1) for word, rest in last if word == "ENV" for part in rest.split())
        volumes = [rest for word, rest in steps if word == "VOLUME"]
        assert [given["HOME"]] == [given["MOLLM_HOME"]] == volumes
        assert given["LOGNAME"]


def test_what_the_images_copy_is_let_through_to_the_engine() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in ("web.Dockerfile", "worker.Dockerfile"):
        steps = [rest.split() for word, rest in instructions(name) if word == "COPY" and "--from" not in rest]
        copied = {part for words in steps for part in words[:-1]}
        assert all(let_through & {part, *map(str, Path(part).parents)} for part in copied)
        assert all((ROOT / part).exists() for part in copied)
