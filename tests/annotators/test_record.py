"""`mollm record` over a project of the store; and the round trip: recorded, replayed by text and id, recorded again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mollm import recording
from mollm.annotators import fingerprint, open_annotator
from mollm.config import AnnotatorConfig, PanelConfig
from mollm.prompts import Shot
from mollm.records import Item, LabelSet, Provenance, Signals
from mollm_backend import settings
from mollm_backend.cli import app
from mollm_backend.store import Store, labels, projects, signals, tasks
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task

LABELS = LabelSet(("sports", "money"))
NAMES = ("a", "b")
TEXTS = tuple(f"text {n}" for n in range(6))


def recorded(directory: Path) -> Signals:
    """What two LLMs say of the six texts; `b` abstains on the third."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(2), size=(6, 2)).round(3)
    votes = rng.multinomial(10, [0.5, 0.5], size=(6, 2)) / 10
    probs[2, 1] = votes[2, 1] = 0
    items = tuple(Item(f"id{n}", text) for n, text in enumerate(TEXTS))
    found = Signals(tuple(item.id for item in items), NAMES, LABELS.names, probs, votes)
    recording.save(directory, recording.Recording("r", LABELS, items, found, np.full(6, -1), 10, 0.7, 0.9))
    return found


def panel_file(tmp_path: Path) -> Path:
    written = tmp_path / "panel.toml"
    parts = (f'[[annotators]]\nname = "{name}"\nruntime = "recording"\nmodel = "{tmp_path / "r"}"\n' for name in NAMES)
    written.write_text("".join(parts))
    return written


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a project of seven tasks: the six texts in another order, one that cannot be read, one a shot."""
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    store = Store(settings.load().store_url)
    panel = PanelConfig.load(panel_file(tmp_path))
    shots = [["an example", "sports"]]
    prints = [
        fingerprint(config, LABELS, panel.instruction, [Shot("an example", "sports")]) for config in panel.annotators
    ]
    members = tuple(PanelMember(name, print_of) for name, print_of in zip(NAMES, prints, strict=True))
    decisions = (Decision("topic", (Source("text", "text"),), LABELS),)
    projects.save(store, Project(7, "http://ls", "News", "2026", "<View/>", decisions, members, {"shots": shots}))
    rows = [Task(10 + n, f"h{n}", text) for n, text in enumerate(TEXTS[::-1])]
    rows += [Task(90, "x", None, "no text"), Task(91, "y", "an example")]
    tasks.upsert(store, 7, rows)
    labels.upsert(store, 7, [Annotation(1, 10, 1, "money", False, Provenance.FROM_SCRATCH)])
    return store


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["record", *map(str, arguments)])


def test_a_project_is_recorded_with_its_peoples_labels(project: Store, tmp_path: Path) -> None:
    expected = recorded(tmp_path / "r")
    result = run(tmp_path / "out", "--project", 7, "--panel", tmp_path / "panel.toml")
    assert result.exit_code == 0, result.output
    found = recording.load(tmp_path / "out")
    assert (found.name, found.labels.names, found.has_text) == ("News", LABELS.names, True)
    assert [item.text for item in found.items] == list(TEXTS[::-1])
    assert [item.id for item in found.items] == [str(10 + n) for n in range(6)]
    assert found.gold.tolist() == [1, -1, -1, -1, -1, -1]
    np.testing.assert_allclose(found.signals.label_probs[::-1], expected.label_probs, atol=1e-6)
    np.testing.assert_allclose(found.signals.votes[::-1], expected.votes, atol=1e-6)


def test_what_the_store_knows_is_not_asked_again(project: Store, tmp_path: Path) -> None:
    """The cache's answers stand in the recording as they are; only the missing text is asked."""
    recorded(tmp_path / "r")
    member = projects.get(project, 7).panel[0]
    rows = [
        SignalRow(task.item.text_key, np.array([0.25, 0.75]), np.array([0.1, 0.9]))
        for task in tasks.every(project, 7)
        if task.task_id in range(10, 15)
    ]
    signals.save(project, member, 7, rows, Cost())
    assert run(tmp_path / "out", "--project", 7, "--panel", tmp_path / "panel.toml").exit_code == 0
    found = recording.load(tmp_path / "out").signals
    np.testing.assert_allclose(found.label_probs[:5, 0], [[0.25, 0.75]] * 5)
    np.testing.assert_allclose(found.votes[:5, 0], [[0.1, 0.9]] * 5)
    assert not np.allclose(found.label_probs[5, 0], [0.25, 0.75])


def test_a_stopped_run_goes_on_by_text(project: Store, tmp_path: Path) -> None:
    """Notes of an earlier run are kept by text: a task deleted between the runs shifts nobody's answers."""
    expected = recorded(tmp_path / "r")
    out = tmp_path / "out"
    out.mkdir()
    print_of = projects.get(project, 7).panel[0].fingerprint
    noted = [json.dumps([Item("", text).text_key, [0.5, 0.5], [1.0, 0.0]]) for text in TEXTS[:2]]
    (out / f".answers-{print_of}.jsonl").write_text("\n".join([*noted, '["cut sho']))
    rows = {task.task_id: task for task in tasks.every(project, 7)}
    tasks.tombstone(project, 7, [12])
    assert 12 in rows
    result = run(out, "--project", 7, "--panel", tmp_path / "panel.toml")
    assert result.exit_code == 0, result.output
    found = recording.load(out)
    by_text = {item.text: n for n, item in enumerate(found.items)}
    assert set(by_text) == set(TEXTS) - {"text 3"}
    for n, text in enumerate(TEXTS):
        if n != 3:
            said = [0.5, 0.5] if n < 2 else expected.label_probs[n, 0]
            np.testing.assert_allclose(found.signals.label_probs[by_text[text], 0], said, atol=1e-6)


@pytest.mark.parametrize("with_text", [True, False], ids=["by text", "by id"])
def test_the_round_trip_changes_nothing(tmp_path: Path, with_text: bool) -> None:
    """Replayed and recorded again, a recording is itself: probabilities, votes, abstentions, order."""
    first = recorded(tmp_path / "r")
    found = recording.load(tmp_path / "r")
    if not with_text:
        items = tuple(Item(item.id, None) for item in found.items)
        recording.save(
            tmp_path / "r",
            recording.Recording("r", LABELS, items, found.signals, found.gold, 10, 0.7, 0.9),
        )
    asked = TEXTS if with_text else tuple(item.id for item in found.items)
    again = []
    for name in NAMES:
        config = AnnotatorConfig(name=name, runtime="recording", model=str(tmp_path / "r"))
        with open_annotator(config, LABELS, "") as annotator:
            again.append(annotator.annotate(asked))
    probs = np.stack([[answer.label_probs for answer in answers] for answers in again], axis=1)
    votes = np.stack([[answer.votes for answer in answers] for answers in again], axis=1)
    np.testing.assert_allclose(probs, first.label_probs, atol=1e-7)
    np.testing.assert_allclose(votes, first.votes, atol=1e-7)
    assert again[1][2].abstained == 1
    second = recording.Recording(
        "r", LABELS, recording.load(tmp_path / "r").items, Signals(first.items, NAMES, LABELS.names, probs, votes),
        found.gold, 10, 0.7, 0.9,
    )  # fmt: skip
    recording.save(tmp_path / "again", second)
    with np.load(tmp_path / "r" / "signals.npz") as one, np.load(tmp_path / "again" / "signals.npz") as other:
        for key in ("label_probs", "votes"):
            np.testing.assert_array_equal(one[key], other[key])


def test_wrong_usage_is_told(project: Store, tmp_path: Path) -> None:
    assert run(tmp_path / "out").exit_code == 2
    assert run(tmp_path / "out", "--project", 7, "--file", "x.csv").exit_code == 2
    assert run(tmp_path / "out", "--project", 99, "--panel", tmp_path / "panel.toml").exit_code == 1
