"""What others add: files in a room's folder and installed packages, good ones beside broken ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import mollm.annotators
import mollm.mixture
import mollm.strategies
from mollm import ConfigError, ModelFileError, MollmError, plugins, select
from mollm.annotators import open_annotator, runtimes
from mollm.config import AnnotatorConfig
from mollm.mixture import aggregator, aggregators, from_state
from mollm.records import FittedState, LabelSet
from mollm.strategies import strategies, strategy

GOOD = "from mollm.strategies.random import random\ndef luck(pool, batch, rng): return random(pool, batch, rng)\n"
MIXTURE = """
from mollm.mixture.majority import Majority
class Ours(Majority):
    name = "ours"
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test finds anew; modules of the test's own are not kept."""
    before = set(sys.modules)
    for kept in (plugins._sources, plugins._load):
        kept.cache_clear()
    yield
    for kept in (plugins._sources, plugins._load):
        kept.cache_clear()
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "acme" or name.rpartition(".")[2] in ("luck", "ours", "broken", "wrong", "silly"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType, dict[str, str]], None]:
    """Put files into a room's folder for one test."""

    def put(room: ModuleType, files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])

    return put


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install the package `acme` with these entry points and this text."""

    def put(text: str, **groups: str) -> None:
        (tmp_path / "acme.py").write_text(text)
        info = tmp_path / "acme-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        lines = "".join(f"[mollm.{group}]\n{points}\n" for group, points in groups.items())
        (info / "entry_points.txt").write_text(lines)
        monkeypatch.syspath_prepend(str(tmp_path))

    return put


def test_a_file_that_does_not_fit_is_refused_by_name_and_stops_nothing(folder: Callable[..., None]) -> None:
    files = {"luck": GOOD, "silly": "def another(): ...", "broken": "import nothing_like_this",
             "wrong": "def wrong(pool): ..."}  # fmt: skip
    folder(mollm.strategies, files)
    with pytest.warns(plugins.RefusedWarning) as lines:
        found = strategies()
    assert {"luck", "random", "discrepancy"} <= set(found)
    assert [str(line.message).split("'")[1] for line in lines] == ["broken", "silly", "wrong"]
    assert set(mollm.strategies.ROOM.refused()) == {"broken", "silly", "wrong"}
    assert len(select(np.full((9, 3), 1 / 3), 4, strategy="luck")) == 4
    for name, why in (("silly", "no function `silly`"), ("broken", "nothing_like_this"), ("wrong", "pool, batch, rng")):
        with pytest.raises(ConfigError, match=why):
            strategy(name)


def test_a_package_adds_to_the_rooms(install: Callable[..., None]) -> None:
    install(GOOD + MIXTURE, strategies="luck = acme:luck", aggregators="ours = acme:Ours")
    assert strategy("luck").__module__ == "acme"
    assert aggregators()["ours"] is aggregator("ours")
    state = FittedState("ours", {}, {"annotators": ["a"], "labels": ["x", "y"]})
    assert from_state(state).explain()


def test_a_broken_package_stops_nothing(install: Callable[..., None]) -> None:
    install(
        "1 / 0", strategies="luck = acme:luck", aggregators="ours = acme:Ours\nmajority = acme:M", runtimes="r = acme:R"
    )
    with pytest.warns(plugins.RefusedWarning, match="left out"):
        assert "margin" in strategies()
    with pytest.warns(plugins.RefusedWarning) as lines:
        assert aggregators()["majority"].__module__ == "mollm.mixture.majority"
    assert "that name is taken" in str(lines[0].message)
    for ask in (lambda: strategy("luck"), lambda: aggregator("ours")):
        with pytest.raises(ConfigError, match="ZeroDivisionError"):
            ask()
    with pytest.raises(ConfigError, match="a: The runtime 'r' cannot be used"):
        open_annotator(AnnotatorConfig(name="a", runtime="r", model="m"), LabelSet(("x",)), "")
    with pytest.warns(plugins.RefusedWarning):
        assert "recording" in runtimes()


CLASSES = {
    "its class must say": MIXTURE.replace('"ours"', '"others"'),
    "lacks fit": "from mollm.mixture import Mixture\nclass Ours(Mixture):\n    name = 'ours'\n",
    "must take": MIXTURE + "    def __init__(self, needed): ...\n",
    "no subclass": "def Ours(): ...\n",
}


@pytest.mark.parametrize("why", CLASSES)
def test_a_class_that_does_not_fit_is_refused_with_the_reason(install: Callable[..., None], why: str) -> None:
    install(CLASSES[why], aggregators="ours = acme:Ours")
    with pytest.raises(ConfigError, match=why):
        aggregator("ours")


def test_a_file_of_the_mixture_without_an_aggregator_is_a_part(folder: Callable[..., None]) -> None:
    folder(mollm.mixture, {"silly": "x = 1", "ours": MIXTURE})
    assert "ours" in aggregators()
    assert mollm.mixture.ROOM.refused() == {}
    with pytest.raises(ConfigError, match="choose one of"):
        aggregator("silly")
    with pytest.raises(ModelFileError, match="silly"):
        from_state(FittedState("silly"))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ConfigError, match=r"mollm\[lab\]"):
        plugins.optional("xgboost", "The aggregator `molam`")
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "mollm.annotators.openai", raising=False)
    monkeypatch.delitem(sys.modules, "mollm.annotators._http", raising=False)
    assert "openai" not in runtimes()
    with pytest.raises(MollmError, match=r"httpx: pip install 'mollm\[openai\]'"):
        open_annotator(AnnotatorConfig(name="a", runtime="openai", model="m"), LabelSet(("x",)), "")


def test_the_command_names_its_extra() -> None:
    block = "import sys; sys.modules['typer'] = None; from mollm_backend.command import main; main()"
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "The command `mollm` needs the server's packages (typer): pip install 'mollm[backend]'\n"
