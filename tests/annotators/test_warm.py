"""Models in turn: warm in the main memory while there is room, one at a time on a card, memory freed between.

No card can be had here: the turns are tested with annotators that count, and the freeing with a real tiny model.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mollm import devices
from mollm.annotators import Annotator, Answer, Needs, needs, open_annotator
from mollm.annotators._warm import Warm, free_memory
from mollm.config import AnnotatorConfig
from mollm.records import LabelSet
from tests.annotators.tiny_model import make_tiny_model

LABELS = LabelSet(("sports", "money", "science"))


class Counting(Annotator):
    """Takes `room` of a machine's `memory` while it is open, and notes what happens."""

    runtime = "counting"

    def __init__(self, name: str, story: list[str]) -> None:
        super().__init__(AnnotatorConfig(name=name, model="m"), LABELS, "", (), Path())
        self.story = story
        story.append(f"open {name}")

    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        return [Answer(np.full(3, 1 / 3), np.full(3, 1 / 3)) for _ in texts]

    def close(self) -> None:
        self.story.append(f"close {self.name}")


class Machine:
    """`memory` bytes in all; `ask` opens or finds annotators that need `room` bytes of `device`."""

    def __init__(self, memory: int = 100) -> None:
        self.memory, self.taken, self.story = memory, dict[str, int](), list[str]()
        self.warm = Warm(free=lambda: self.memory - sum(self._held().values()))

    def _held(self) -> dict[str, int]:
        closed = {line.removeprefix("close ") for line in self.story if line.startswith("close ")}
        return {name: size for name, size in self.taken.items() if name not in closed}

    def ask(self, name: str, device: str = "cpu", room: int = 0, model: str = "") -> None:
        def opened() -> Annotator:
            self.taken[name] = room
            return Counting(name, self.story)

        assert self.warm.get(name, lambda: Needs(device, room, model or name), opened).annotate(["x"])[0].abstained == 0


def test_on_a_cpu_with_room_all_stay_warm() -> None:
    machine = Machine()
    for name in "abababcab":
        machine.ask(name, room=30)
    assert machine.story == ["open a", "open b", "open c"]


def test_without_room_the_one_asked_longest_ago_gives_way() -> None:
    machine = Machine()
    for name in ("a", "b", "a", "c"):
        machine.ask(name, room=40)
    assert machine.story == ["open a", "open b", "close b", "open c"]


def test_on_one_card_models_take_turns() -> None:
    machine = Machine()
    for name in "aabb":
        machine.ask(name, "cuda", room=1)
    assert machine.story == ["open a", "close a", "open b"]


def test_cards_and_the_main_memory_do_not_hinder_each_other() -> None:
    machine = Machine()
    for name, device in (("a", "cuda:0"), ("b", "cuda:1"), ("c", "cpu"), ("d", ""), ("e", "cuda:1")):
        machine.ask(name, device, room=1)
    assert machine.story == ["open a", "open b", "open c", "open d", "close b", "open e"]


def test_servers_and_recordings_never_give_way() -> None:
    machine = Machine(memory=0)
    for name in "abc":
        machine.ask(name, "")
    machine.ask("big", room=1_000)
    assert machine.story == ["open a", "open b", "open c", "open big"]


def test_annotators_of_one_model_stay_together() -> None:
    """Other labels or prompts of a model that is loaded already need no room of their own, and no turn."""
    machine = Machine(memory=50)
    for name in "aba":
        machine.ask(name, "cuda", room=40, model="one")
    machine.ask("c", room=40, model="two")
    machine.ask("d", room=40, model="two")
    assert machine.story == ["open a", "open b", "open c", "open d"]
    machine.ask("e", "cuda", room=1, model="three")
    assert machine.story[4:] == ["close b", "close a", "open e"]


@pytest.mark.slow
def test_weights_are_loaded_once_for_all_prompts(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the transformers runtime needs mollm[torch]")
    make_tiny_model(tmp_path / "tiny")
    config = AnnotatorConfig(name="a", model="tiny", orders=1)
    one, two = (open_annotator(config, LABELS, words, (), tmp_path) for words in ("Name it.", "What is it?"))
    assert one.model is two.model  # type: ignore[attr-defined]
    one.close()
    assert two.annotate(["sports"])[0].abstained == 0
    two.close()


def test_one_that_cannot_be_opened_leaves_nothing_behind() -> None:
    warm, story = Warm(), list[str]()

    def broken() -> Annotator:
        raise RuntimeError("no such model")

    with pytest.raises(RuntimeError):
        warm.get("a", Needs, broken)
    assert warm.get("a", Needs, lambda: Counting("a", story)).name == "a"
    warm.close()
    assert story == ["open a", "close a"]


def test_free_memory_is_less_than_all_of_it() -> None:
    assert 0 <= free_memory() < 2**50


@pytest.mark.parametrize(
    ("flags", "size"),
    [("fpu avx512f avx512_bf16", 1500), ("Features: asimd bf16", 1500), ("fpu avx512f", 3000), (None, 3000)],
)
def test_a_cpu_loads_bfloat16_where_it_computes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, size: int
) -> None:
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    devices.cpu_has_bfloat16.cache_clear()
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n", encoding="utf-8")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.safetensors").write_bytes(bytes(1000))
    local = AnnotatorConfig(name="a", model="tiny", device="cpu")
    try:
        assert needs(local, tmp_path).bytes == size
    finally:
        devices.cpu_has_bfloat16.cache_clear()


def test_what_a_runtime_needs_is_known_without_opening_it(tmp_path: Path) -> None:
    served = AnnotatorConfig(name="a", runtime="openai", model="m", url="http://nowhere")
    assert needs(served, tmp_path) == Needs("", 0)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.safetensors").write_bytes(bytes(1000))
    local = AnnotatorConfig(name="a", model="tiny", device="cuda:1", dtype="bfloat16")
    weights = str(tmp_path / "tiny")
    assert needs(local, tmp_path) == Needs("cuda:1", 1500, weights)
    exact = local.model_copy(update={"device": "cpu", "dtype": "float32"})
    assert needs(exact, tmp_path) == Needs("cpu", 3000, weights)
    assert Needs("cuda").takes_turns
    assert not Needs("cpu", 5).takes_turns


@pytest.mark.slow
def test_a_model_that_gave_way_is_gone_from_memory(tmp_path: Path) -> None:
    """Closed by its turn, a real model leaves no reference behind, in the dtype that was asked for."""
    torch = pytest.importorskip("torch", reason="the transformers runtime needs mollm[torch]")
    for name in ("one", "two"):
        make_tiny_model(tmp_path / name)
    warm = Warm()
    configs = [AnnotatorConfig(name=name, model=name, dtype="bfloat16", orders=1) for name in ("one", "two")]

    def ask(config: AnnotatorConfig) -> Annotator:
        return warm.get(
            config.name,
            lambda: Needs("cuda", 0, config.name),
            lambda: open_annotator(config, LABELS, "Name it.", (), tmp_path),
        )

    first = ask(configs[0])
    assert first.annotate(["sports"])[0].abstained == 0
    weights = weakref.ref(first.model)  # type: ignore[attr-defined]
    assert weights().dtype == torch.bfloat16  # type: ignore[union-attr]
    del first
    second = ask(configs[1])
    gc.collect()
    assert weights() is None
    assert second.annotate(["sports"])[0].abstained == 0
    warm.close()


def test_a_device_that_is_not_there_says_so(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the transformers runtime needs mollm[torch]")
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    make_tiny_model(tmp_path / "tiny")
    from mollm.errors import ConfigError

    with pytest.raises(ConfigError, match="device 'cuda'"):
        open_annotator(AnnotatorConfig(name="a", model="tiny", device="cuda"), LABELS, "", (), tmp_path)
