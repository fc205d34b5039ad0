"""One round: what it hands out holds for pools of any size, and nothing leaks into what it scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mollm.config import LoopConfig
from mollm.errors import ConfigError, InputError, ModelFileError
from mollm.records import BoolArray, FloatArray, IntArray, Item, Signals, Targets
from mollm.round.chain import Chain
from mollm.round.run import RoundInput, RoundOutcome, predict, run_round

LABELS = ("animal", "place", "number")
WORDS = ("cat dog", "town road", "one two")
CONFIG = LoopConfig(batch_size=5, reserve=7, aggregator="logpool")  # the ladder has a test of its own below


class WordEncoder:
    """A text's embedding counts the letters a..h: enough for the three word lists."""

    def embed(self, texts: Sequence[str]) -> FloatArray:
        counts = np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float64)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1)


def world(N: int, M: int = 3, seed: int = 0) -> tuple[list[Item], Signals, IntArray]:
    """Items whose text tells the label, and LLMs that are right two times in three."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(3, size=N)
    said = np.where(rng.random((N, M)) < 0.67, gold[:, None], rng.integers(3, size=(N, M)))
    probs = 0.1 + 0.7 * np.eye(3)[said]
    ids = tuple(f"t{n}" for n in range(N))
    items = [Item(ids[n], f"{WORDS[gold[n]]} {n}") for n in range(N)]
    return items, Signals(ids, tuple(f"llm{m}" for m in range(M)), LABELS, probs, probs), gold


def round_of(
    N: int = 60, H: int = 12, config: LoopConfig = CONFIG, open_items: BoolArray | None = None
) -> RoundOutcome:
    items, signals, gold = world(N)
    return run_round(
        RoundInput(items, signals, Targets.of(np.arange(H), gold[:H]), 1, open_items=open_items),
        config=config,
        encoder=WordEncoder(),
        rng=np.random.default_rng(0),
    )


def test_a_round_is_whole() -> None:
    outcome = round_of()
    np.testing.assert_allclose(outcome.probabilities.sum(axis=1), 1)
    assert len(outcome.entries) == 12
    assert [entry.rank for entry in outcome.entries] == list(range(12))
    assert len({entry.item for entry in outcome.entries}) == 12
    assert not {entry.item for entry in outcome.entries} & {f"t{n}" for n in range(12)}
    assert all(entry.reason.startswith("The mixture says") for entry in outcome.entries)
    assert set(outcome.scores) >= {"log_loss", "accuracy", "ece"}
    assert outcome.per_label_log_loss.shape == (12,)
    assert np.isfinite(outcome.per_label_log_loss).all()
    assert not outcome.negatives[np.arange(60), outcome.probabilities.argmax(axis=1)].any()
    assert sum(row.human for row in outcome.rows) == 12
    assert all(row.weight == 1 and not row.negatives for row in outcome.rows if row.human)


def test_the_classifier_lifts_the_panel() -> None:
    items, signals, gold = world(150)
    targets = Targets.of(np.arange(30), gold[:30])
    scores = {}
    for mode in ("head", "none"):
        outcome = run_round(
            RoundInput(items, signals, targets, 1),
            config=CONFIG.model_copy(update={"classifier": mode}),
            encoder=WordEncoder(),
            rng=np.random.default_rng(0),
        )
        scores[mode] = (outcome.probabilities.argmax(axis=1) == gold)[30:].mean()
    assert scores["head"] > scores["none"] + 0.05


def test_equal_arguments_give_equal_outcomes() -> None:
    first, second = round_of(), round_of()
    assert first.probabilities.tobytes() == second.probabilities.tobytes()
    assert first.entries == second.entries
    assert first.rows == second.rows


@pytest.mark.parametrize(("N", "H"), [(1, 0), (1, 1), (2, 1), (9, 0), (9, 9), (12, 3)])
def test_tiny_pools(N: int, H: int) -> None:
    outcome = round_of(N, H)
    assert np.isfinite(outcome.probabilities).all()
    assert len(outcome.entries) == min(12, N - H)
    assert all(np.isfinite(value) for value in outcome.scores.values())
    assert bool(outcome.scores) == (H > 0)


def test_the_default_ladder_runs_whole_and_measures_the_parts() -> None:
    outcome = round_of(60, 30, CONFIG.model_copy(update={"aggregator": "auto"}))
    assert outcome.state["mixture"].facts["rung"] == "stacked"
    assert sum("nats a label" in note for note in outcome.notes) == 3
    assert any(note.startswith("Stopping:") for note in outcome.notes)


def test_open_items_are_all_that_is_picked() -> None:
    mask = np.zeros(60, dtype=np.bool_)
    mask[[40, 50]] = True
    assert {entry.item for entry in round_of(open_items=mask).entries} == {"t40", "t50"}


def test_an_empty_pool_and_silent_llms_and_no_text() -> None:
    items, signals, gold = world(40)
    silent = replace(signals, label_probs=np.full((40, 3, 3), np.nan), votes=np.full((40, 3, 3), np.nan))
    for encoder, some in ((None, items), (WordEncoder(), [Item(item.id) for item in items]), (WordEncoder(), items)):
        outcome = run_round(
            RoundInput(some, silent, Targets.of(np.arange(10), gold[:10]), 0),
            config=CONFIG,
            encoder=encoder,
            rng=np.random.default_rng(0),
        )
        assert np.isfinite(outcome.probabilities).all()
        assert len(outcome.entries) == 12
    nobody = run_round(
        RoundInput([], signals.take(slice(0, 0)), Targets.of([], []), 0),
        config=CONFIG,
        encoder=None,
        rng=np.random.default_rng(0),
    )
    assert nobody.entries == ()
    assert nobody.probabilities.shape == (0, 3)


def test_one_class_and_duplicates() -> None:
    _, signals, _ = world(40)
    items = [Item(id, "cat dog") for id in signals.items]
    outcome = run_round(
        RoundInput(items, signals, Targets.of(np.arange(15), np.zeros(15, dtype=int)), 0),
        config=CONFIG,
        encoder=WordEncoder(),
        rng=np.random.default_rng(0),
    )
    assert np.isfinite(outcome.probabilities).all()
    assert len({entry.item for entry in outcome.entries}) == 12


def test_no_row_is_scored_by_a_fit_that_saw_its_label() -> None:
    """Turning the labels of one fold round must not change what the chain says of that fold."""
    items, signals, gold = world(60)
    given = RoundInput(items, signals, Targets.of(np.arange(20), gold[:20]))
    chain = Chain.start(given, CONFIG, WordEncoder(), np.random.default_rng(0))
    mine = chain.fold[:20] == 1
    turned = Targets.of(np.arange(20), np.where(mine, (gold[:20] + 1) % 3, gold[:20]))
    other = replace(chain, pool=replace(chain.pool, targets=turned), _panels={}, _heads={}, _classifiers={})
    out = frozenset({1})
    rows = chain.fold == 1
    np.testing.assert_array_equal(chain.crossfitted()[rows], other.crossfitted()[rows])
    np.testing.assert_array_equal(chain.fused.probs(out), other.fused.probs(out))
    assert not np.array_equal(chain.fused.probs(), other.fused.probs())


def test_new_items_are_predicted_from_the_state() -> None:
    outcome = round_of(150, 30)
    items, signals, gold = world(60, seed=1)
    probs = predict(outcome.state, items, signals, WordEncoder())
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert (probs.argmax(axis=1) == gold).mean() > 0.85


@pytest.mark.parametrize("lost", ["mixture", "classifier", "reading"])
def test_a_state_that_is_not_whole_is_told_of(lost: str) -> None:
    outcome = round_of(60, 12)
    items, signals, _ = world(5, seed=1)
    state = {name: part for name, part in outcome.state.items() if name != lost}
    with pytest.raises(ModelFileError):
        predict(state, items, signals, WordEncoder())


def test_bad_input_is_named() -> None:
    items, signals, _ = world(10)
    go = {"encoder": None, "rng": np.random.default_rng(0)}
    with pytest.raises(InputError, match="same pool"):
        run_round(RoundInput(items[::-1], signals, Targets.of([], [])), config=CONFIG, **go)
    with pytest.raises(InputError, match="not one of the 3 labels"):
        run_round(RoundInput(items, signals, Targets.of([0], [7])), config=CONFIG, **go)
    with pytest.raises(ConfigError, match="strategy"):
        run_round(
            RoundInput(items, signals, Targets.of([0], [1])),
            config=CONFIG.model_copy(update={"strategy": "luck"}),
            **go,
        )
    with pytest.raises(ConfigError, match="aggregator"):
        run_round(
            RoundInput(items, signals, Targets.of([0], [1])),
            config=CONFIG.model_copy(update={"aggregator": "luck"}),
            **go,
        )
    with pytest.raises(InputError, match="open_items"):
        run_round(
            RoundInput(items, signals, Targets.of([0], [1]), open_items=np.ones(3, dtype=np.bool_)), config=CONFIG, **go
        )
