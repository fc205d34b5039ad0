"""One training of a project: store -> round -> gate -> version -> batch. The round itself is `mollm.loop`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from mollm import acceptance, stopping
from mollm.errors import InputError
from mollm.loop import RoundOutcome, run_round
from mollm.records import BoolArray, HumanLabel, Signals, Targets, digest
from mollm.store import events, labels, projects, signals, states, tasks, versions
from mollm.store.labels import Annotation
from mollm.store.projects import Project
from mollm.store.tasks import Task
from mollm.store.versions import StoredEntry, StoredPrediction, Version
from mollm_backend import people
from mollm_backend.jobs import pretrained
from mollm_backend.jobs.runtime import Runtime

log = structlog.get_logger()


@dataclass(frozen=True)
class Pool:
    """All that one training reads, taken from the store at one moment. `tasks` (N) is in the order of `signals`."""

    tasks: tuple[Task, ...]
    answered: int
    signals: Signals
    human: tuple[HumanLabel, ...]
    annotations: tuple[Annotation, ...]
    people: dict[str, Any] = field(default_factory=dict)  # what is known of those who labelled

    @property
    def targets(self) -> Targets:
        return Targets.from_human(self.human, self.signals.items, self.signals.labels)

    @property
    def open_items(self) -> BoolArray:
        """(N,) True where a person may be asked: neither labelled nor skipped."""
        closed = labels.closed_tasks(self.annotations)
        return np.array([task.task_id not in closed for task in self.tasks], dtype=np.bool_)


def read_pool(runtime: Runtime, project: Project) -> Pool:
    """The readable tasks that at least one annotator has answered, without those that serve as few-shot examples."""
    answered = signals.count_answered(
        runtime.store, project
    )  # counted first: an answer that comes later starts a round
    shots = {text for text, _label in project.options.get("shots", [])}
    rows = [task for task in tasks.every(runtime.store, project.id) if not task.problem and task.text not in shots]
    panel = signals.load(runtime.store, project, rows)
    known = np.asarray(~panel.missing.all(axis=1), dtype=np.bool_)
    annotations = labels.every(runtime.store, project.id)
    known_people = people.of(
        runtime.store, project.id, project.options, project.label_task.labels.names, annotations
    )  # fmt: skip
    kept = tuple(task for task, has_answer in zip(rows, known, strict=True) if has_answer)
    return Pool(kept, answered, panel.take(known), known_people.human, tuple(annotations), people.as_json(known_people))


def train(runtime: Runtime, project: Project, reason: str) -> Version:
    """Run a round and store what came of it. Raises InputError where there is nothing to learn from."""
    pool = read_pool(runtime, project)
    if not pool.tasks:
        raise InputError("No task has been read by the panel yet: there is nothing to train on.")
    before = versions.newest(runtime.store, project.id)
    round_index = 0 if before is None else before.round + 1
    config = runtime.loop_config(project)
    events.add(runtime.store, "info", f"training round {round_index} started: {reason}", project.id)
    outcome = run_round(
        [task.item for task in pool.tasks], pool.signals, pool.targets, config=config, encoder=runtime.encoder(),
        round_index=round_index, rng=np.random.default_rng([config.seed, round_index]),
        open_items=pool.open_items, earlier=_earlier(runtime, project, pool),
        progress=lambda line: log.info("training", line=line),
    )  # fmt: skip
    version = _version(project, pool, outcome, round_index, config.model_dump_json())
    verdict = _judge(runtime, project, version)
    states.save(runtime.settings.versions_dir / str(project.id) / version.id, outcome.state)
    pretrained.save(runtime, project, version, outcome.state)
    version.facts["gate"] = verdict.line
    accepted = verdict.accepted
    stored = Version(
        version.id, version.round, "candidate" if accepted else "refused", version.human_labels, version.facts
    )
    versions.save(runtime.store, project.id, stored, _predictions(pool, outcome))
    if accepted:
        _publish(runtime, project, pool, outcome, stored)
    events.add(runtime.store, "done" if accepted else "problem", _line(stored, verdict), project.id)
    return stored


def _version(project: Project, pool: Pool, outcome: RoundOutcome, round_index: int, config: str) -> Version:
    panel = [member.fingerprint for member in project.panel]
    rows = sorted(labels.row_keys(pool.human))
    texts = digest(*(task.item.text_key for task in pool.tasks))
    name = digest(*panel, project.label_task.labels.key(), *rows, texts, config, str(round_index))[:8]
    keys = _label_keys(pool)
    losses = {key: float(loss) for key, loss in zip(keys, outcome.per_label_log_loss, strict=True)}
    facts = {
        "panel": panel, "pool": len(pool.tasks), "answered": pool.answered, "label_rows": rows, "losses": losses,
        "scores": dict(outcome.scores), "notes": list(outcome.notes), "people": pool.people,
        "negatives": int(outcome.negatives.sum()),
        "rows": len(outcome.rows), "human_rows": sum(row.human for row in outcome.rows),
    }  # fmt: skip
    return Version(f"mollm-{round_index}-{name}", round_index, "candidate", len(pool.human), facts)


def _label_keys(pool: Pool) -> list[str]:
    """A name for each row of the targets, in their order: the gate pairs two versions' losses by it."""
    place = set(pool.signals.items)
    return [f"{row.item}/{row.annotator}/{row.label}" for row in pool.human if row.item in place]


def _earlier(runtime: Runtime, project: Project, pool: Pool) -> list[stopping.Earlier]:
    """The learning curve so far, oldest first: what the last versions lost on the labels of this pool."""
    keys, rows = _label_keys(pool), versions.every(runtime.store, project.id)[: stopping.LAST]
    return [stopping.Earlier.of(row.human_labels, row.facts.get("losses", {}), keys) for row in reversed(rows)]


def _judge(runtime: Runtime, project: Project, candidate: Version) -> acceptance.Verdict:
    published = versions.find(runtime.store, project.id, project.published_version)
    comparable = published is not None and published.facts.get("panel") == candidate.facts["panel"]
    before: Mapping[str, float] = published.facts.get("losses", {}) if published and comparable else {}
    return acceptance.compare(candidate.facts["losses"], before)


def _predictions(pool: Pool, outcome: RoundOutcome) -> list[StoredPrediction]:
    names = np.array(pool.signals.labels)
    classifier = outcome.classifier_probabilities
    return [
        StoredPrediction(
            task.task_id, task.item.text_key, str(names[probs.argmax()]), float(probs.max()), probs,
            None if classifier is None else classifier[n], tuple(str(name) for name in names[outcome.negatives[n]]),
        )
        for n, (task, probs) in enumerate(zip(pool.tasks, outcome.probabilities, strict=True))
    ]  # fmt: skip


def _publish(runtime: Runtime, project: Project, pool: Pool, outcome: RoundOutcome, version: Version) -> None:
    batch_version = f"{version.id}+batch-1"
    entries = _entries(pool, outcome, version)
    versions.save_batch(runtime.store, project.id, batch_version, entries)
    versions.publish(runtime.store, project.id, version.id)
    projects.change(runtime.store, project.id, batch_version=batch_version)


def _entries(pool: Pool, outcome: RoundOutcome, version: Version) -> Sequence[StoredEntry]:
    place = {item: n for n, item in enumerate(pool.signals.items)}
    names = pool.signals.labels
    rows = []
    for entry in outcome.entries:
        probs = outcome.probabilities[place[entry.item]]
        label, confidence = names[int(probs.argmax())], float(probs.max())
        rows.append(StoredEntry(int(entry.item), entry.rank, version.id, label, confidence, entry.reason, entry.gain))
    return rows


def _line(version: Version, verdict: acceptance.Verdict) -> str:
    scores = version.facts["scores"]
    shown = ", ".join(f"{name} {scores[name]:.3f}" for name in ("accuracy", "log_loss", "ece") if name in scores)
    what = f"{version.id} from {version.human_labels} human labels and {version.facts['pool']} tasks"
    return f"{what} {verdict.line}" + (f"; cross-fitted {shown}" if shown else "")
