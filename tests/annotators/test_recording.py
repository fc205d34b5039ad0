"""The recording runtime, `mollm record` over it, and memory that does not grow with the texts."""

from __future__ import annotations

import gc
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from mollm import recording
from mollm.annotators import open_annotator
from mollm.config import AnnotatorConfig
from mollm.errors import ConfigError, ModelFileError
from mollm.records import FloatArray, Item, LabelSet, Signals
from mollm_backend.cli import app

LABELS = LabelSet(("sports", "money"))


def make(directory: Path, N: int = 6, *, text: bool = True) -> Signals:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(2), size=(N, 2)).round(3)
    votes = rng.multinomial(9, [0.5, 0.5], size=(N, 2)) / 10
    items = tuple(Item(f"id{n}", f"text {n}" if text else None) for n in range(N))
    signals = Signals(tuple(item.id for item in items), ("a", "b"), LABELS.names, probs, votes)
    found = recording.Recording("r", LABELS, items, signals, np.full(N, -1), 10, 0.7, 0.9)
    recording.save(directory, found)
    return signals


def opened(directory: Path, labels: LabelSet = LABELS, name: str = "a", who: str = ""):  # type: ignore[no-untyped-def]
    model = f"{directory}#{who}" if who else str(directory)
    return open_annotator(AnnotatorConfig(name=name, runtime="recording", model=model), labels, "")


def test_replays_by_text_by_id_and_by_name(tmp_path: Path) -> None:
    signals = make(tmp_path / "r")
    with opened(tmp_path / "r", name="other", who="b") as annotator:
        answers = annotator.annotate(["text 4", "never seen", "text 1"])
    np.testing.assert_allclose(answers[0].label_probs, signals.label_probs[4, 1], atol=1e-6)
    np.testing.assert_allclose(answers[2].votes, signals.votes[1, 1], atol=1e-6)
    assert answers[0].abstained == pytest.approx(0.1)
    assert answers[1].abstained == 1
    assert "does not hold" in answers[1].error
    make(tmp_path / "ids", text=False)
    with opened(tmp_path / "ids") as annotator:
        assert annotator.annotate(["id3"])[0].abstained == pytest.approx(0.1)


def test_columns_follow_the_label_set(tmp_path: Path) -> None:
    signals = make(tmp_path / "r")
    with opened(tmp_path / "r", LabelSet(("money", "sports"))) as annotator:
        np.testing.assert_allclose(
            annotator.annotate(["text 0"])[0].label_probs, signals.label_probs[0, 0, ::-1], atol=1e-6
        )


def test_wrong_names_and_broken_files_say_so(tmp_path: Path) -> None:
    make(tmp_path / "r")
    with pytest.raises(ConfigError, match="DIR#name"):
        opened(tmp_path / "r", name="nobody")
    with pytest.raises(ConfigError, match="recorded for the labels"):
        opened(tmp_path / "r", LabelSet(("x", "y")))
    (tmp_path / "r" / "signals.npz").write_bytes(b"PK cut")
    with pytest.raises(ModelFileError, match="cannot be read"):
        opened(tmp_path / "r")


@pytest.mark.parametrize("value", [float("nan"), -0.5, float("inf")])
def test_numbers_that_are_none_are_an_abstention(tmp_path: Path, value: float) -> None:
    make(tmp_path / "r")
    with np.load(tmp_path / "r" / "signals.npz") as arrays:
        probs, votes = arrays["label_probs"].copy(), arrays["votes"]
    probs[2, 0, 1] = value
    np.savez(tmp_path / "r" / "signals.npz", label_probs=probs, votes=votes)
    with opened(tmp_path / "r") as annotator:
        broken, fine = annotator.annotate(["text 2", "text 3"])
    assert broken.abstained == 1
    assert "NaN, infinity or a negative" in broken.error
    assert not fine.error


def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    """100,000 distinct texts in chunks against 1,000: the peak stays within 150 MB (issue 3)."""
    sizes = (1_000, 100_000)
    for N in sizes:
        make(tmp_path / str(N), N)
    gc.collect()
    peaks = []
    for N in sizes:
        with opened(tmp_path / str(N)) as annotator:
            for start in range(0, N, 1000):
                annotator.annotate([f"text {n}" for n in range(start, min(start + 1000, N))])
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # kilobytes on Linux
    assert peaks[1] - peaks[0] < 150e6


@given(
    arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(0, 1)), st.integers(1, 100)
)
def test_shares_are_counted_so_that_they_never_sum_to_more(raw: FloatArray, samples: int) -> None:
    votes = raw / np.maximum(raw.sum(axis=1, keepdims=True), 1)
    found = recording.counts(votes, samples)
    assert (found.sum(axis=1) <= samples).all()
    assert (np.abs(found - votes * samples) < 1 + 1e-6).all()
    assert (recording.counts(found / samples, samples) == found).all()


def test_record_writes_a_recording_and_takes_up_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path / "home"))
    signals = make(tmp_path / "r")
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"text {n},sports\n" for n in range(6)))
    panel = tmp_path / "panel.toml"
    panel.write_text(
        "".join(
            f'[[annotators]]\nname = "{name}"\nruntime = "recording"\nmodel = "{tmp_path / "r"}"\n'
            for name in ("a", "b")
        )
    )
    out = tmp_path / "out"
    command = [
        "record",
        str(out),
        "--file",
        str(tmp_path / "texts.csv"),
        "--panel",
        str(panel),
        "--labels",
        "sports,money",
    ]
    (tmp_path / "r" / "signals.npz").rename(tmp_path / "away")
    assert CliRunner().invoke(app, command).exit_code != 0
    (tmp_path / "away").rename(tmp_path / "r" / "signals.npz")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = recording.load(out)
    np.testing.assert_allclose(found.signals.label_probs, signals.label_probs, atol=1e-6)
    np.testing.assert_allclose(found.signals.votes, signals.votes, atol=0.011)
    assert found.signals.annotators == ("a", "b")
    assert (found.gold == 0).all()
    assert not list(out.glob(".answers-*"))
