"""One training of a project: store -> a round a decision -> gate -> version -> batch. The round is `mollm.round`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import structlog

from mollm import states
from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.records import BatchEntry, BoolArray, FittedState, FloatArray, HumanLabel, digest
from mollm.round import gate, stopping
from mollm.round.discrepancy import Discrepancy
from mollm.round.gate import Verdict
from mollm.round.run import RoundInput, RoundOutcome, no_op, run_round
from mollm_backend.jobs import accuracy, due, labelled, pretrained, suspects, together
from mollm_backend.jobs.pools import DecisionPool, read_pools
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio.controls import by_control, control_of
from mollm_backend.store import batches, changes, events, labels, projects, versions
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.decisions import Decision, sight
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import StoredPrediction, Version
from mollm_backend.work import people, progress

log = structlog.get_logger()


@dataclass(frozen=True)
class Decided:
    """A decision's pool and what a round made of it."""

    pool: DecisionPool
    outcome: RoundOutcome

    @property
    def key(self) -> str:
        return self.pool.decision.key

    def predictions(self) -> list[StoredPrediction]:
        """What the new version says of each task of the pool."""
        names = np.array(self.pool.signals.labels)
        classifier = self.outcome.classifier_probabilities
        return [
            StoredPrediction(
                task.task_id, task.text_key, str(names[probs.argmax()]), float(probs.max()), probs,
                None if classifier is None else classifier[n],
                tuple(str(name) for name in names[self.outcome.negatives[n]]), self.key,
            )
            for n, (task, probs) in enumerate(zip(self.pool.tasks, self.outcome.probabilities, strict=True))
        ]  # fmt: skip

    def discrepancy(self) -> dict[str, float]:
        """Shares of the pool: the classifier contradicts the mixture, and it or any LLM that has answered does."""
        found = Discrepancy(self.outcome.probabilities, self.outcome.classifier_probabilities, self.pool.signals)
        classifier = found.with_classifier
        return {"classifier": float(classifier.mean()), "any": float((classifier | found.against.any(axis=1)).mean())}

    def facts(self, panel: list[str]) -> dict[str, Any]:
        """What a version says of this decision."""
        outcome = self.outcome
        losses = zip(self.pool.label_keys, outcome.per_label_log_loss, strict=True)
        return {
            "panel": panel, "pool": len(self.pool.tasks),
            "losses": {key: float(loss) for key, loss in losses},
            "scores": dict(outcome.scores), "accuracy": accuracy.of([self.pool], outcome.scores),
            "notes": list(outcome.notes), "people": self.pool.people,
            "negatives": int(outcome.negatives.sum()),
            "rows": len(outcome.rows), "human_rows": sum(row.human for row in outcome.rows),
            "suspects": suspects.found(self.pool.human_here, self.pool.annotations, outcome.heard, self.key),
            "measured": labelled.measured(outcome.heard),
            "unread": {} if outcome.unread is None else asdict(outcome.unread),
            "unread_tuned": {} if outcome.unread_tuned is None else asdict(outcome.unread_tuned),
        }  # fmt: skip


def train(runtime: Runtime, project: Project, reason: str, tell: Callable[[str], None] = no_op) -> Version:
    """Run a round of each decision and store what came of it; `tell` hears each step.

    Raises InputError: there is nothing to learn from.
    """
    # Noted first: what changes from now on is predicted by the version afterwards.
    seen, found = changes.newest(runtime.store, project.id), progress.count(runtime.store, project)
    labels_at = labels.revision(runtime.store, project.id)
    tell("reading what is known")
    pools = read_pools(runtime, project)
    if not pools:
        raise InputError("No task has been read by the panel yet: there is nothing to train on.")
    before = versions.newest(runtime.store, project.id)
    round_index = 0 if before is None else before.round + 1
    config = runtime.loop_config(project)
    events.add(runtime.store, "info", f"training round {round_index} started: {reason}", project.id)
    earlier = versions.every(runtime.store, project.id, stopping.LAST)
    decided = list[Decided]()
    for pool in _in_order(pools):
        asked = replace(pool, apart=pool.apart | _hidden(project, pool.decision, decided))
        decided.append(Decided(pool, _round(runtime, project, asked, config, round_index, earlier, tell)))
    decided.sort(key=lambda part: project.decisions.index(part.pool.decision))
    rules = together.fit(project, {part.key: (part.pool, part.outcome) for part in decided})
    tell("storing the new version")
    facts = _facts(project, decided) | {"read": found.read, "silent": found.silent, "labels_at": labels_at}
    facts["notes"] += together.lines(rules)
    given = len({row.item for part in decided for row in part.pool.human})
    facts["guess"] = accuracy.guess([_side(project, part, decided) for part in decided], given)
    apart = [part.discrepancy() for part in decided]
    facts["discrepancy"] = {name: float(np.mean([row[name] for row in apart])) for name in apart[0]}
    published = versions.find(runtime.store, project.id, project.published_version)
    if published is not None and published.unreadable:
        facts["replaces"], published = published.id, None  # what cannot predict new texts is no bar to its successor
    verdicts = {row.pool.decision.name: _judge(published, row.key, facts) for row in decided}
    accepted = all(verdict.accepted for verdict in verdicts.values())
    facts["gate"] = _gate_line(verdicts)
    status = "candidate" if accepted else "refused"
    name = f"mollm-{round_index}-{_name(project, decided, config, round_index)}"
    version = Version(name, round_index, status, _people(decided), facts, changes=seen)
    fitted = _states(project, decided) | together.states(project, rules)
    facts["files"] = states.save(runtime.version_files.of(project.id, version.id), fitted)
    runtime.version_files.send(project.id, version.id)
    encoder = runtime.encoder()
    facts["encoder"] = "" if encoder is None else encoder.fingerprint
    if len(project.decisions) == 1:
        pretrained.save(runtime, project, version, decided[0].outcome.state)
    predicted = (row for part in decided for row in part.predictions())
    read = {part.key: (part.pool.tasks, part.pool.signals) for part in decided}
    versions.save(runtime.store, project.id, version, together.labelled(project, rules, read, predicted))
    line = _line(version)
    if accepted and not _publish(runtime, project, decided, version, config):
        line += f"; it stays a candidate: the project is {projects.get(runtime.store, project.id).pin}"
    events.add(runtime.store, "done" if accepted else "problem", line, project.id)
    return version


def _in_order(pools: Sequence[DecisionPool]) -> Iterator[DecisionPool]:
    """The pools, each after those on whose labels it depends whether its control is shown."""
    rest = list(pools)
    while rest:
        waiting = {pool.decision.control for pool in rest}
        free = [pool for pool in rest if not waiting & {one.control for one in pool.decision.conditions}] or rest
        yield from free
        keys = {pool.decision.key for pool in free}
        rest = [pool for pool in rest if pool.decision.key not in keys]


def _hidden(project: Project, decision: Decision, decided: Sequence[Decided]) -> frozenset[int]:
    """The tasks in which people would not be asked about a decision, by what the round says of those before it."""
    if not decision.conditions:
        return frozenset()
    labels_of: dict[int, dict[str, str | None]] = {}
    for part in decided:
        for row in part.predictions():
            labels_of.setdefault(row.task_id, {})[part.key] = row.label
    decisions = [row for row in project.decisions if any(row.key == part.key for part in decided)]
    return frozenset(task for task, known in labels_of.items() if not sight(decisions, known)(decision.conditions))


def _side(project: Project, part: Decided, decided: Sequence[Decided]) -> tuple[Sequence[str], BoolArray, FloatArray]:
    """What `accuracy.guess` reads of a decision: where its control is hidden, nothing can be wrong."""
    hidden = _hidden(project, part.pool.decision, [row for row in decided if row.key != part.key])
    probs = part.outcome.probabilities.copy()
    probs[[task.task_id in hidden for task in part.pool.tasks]] = 1.0
    return part.pool.signals.items, part.pool.open_items, probs


def _round(
    runtime: Runtime, project: Project, pool: DecisionPool, config: LoopConfig, round_index: int,
    earlier: Sequence[Version], tell: Callable[[str], None],
) -> RoundOutcome:  # fmt: skip
    """One decision's round. All decisions share the encoder, and with it the cached embeddings."""
    named = f"{pool.decision.name}: " if pool.decision.key else ""

    def step(line: str) -> None:
        log.info(f"training: {named}{line}")
        tell(f"{named}{line}")

    encoder = runtime.encoder()
    if encoder is not None:
        encoder.tell = lambda line: tell(f"{named}{line}")
    together = next(rows for rows in by_control(project.decisions) if pool.decision in rows)
    given = RoundInput(
        [task.item for task in pool.tasks], pool.signals, pool.targets, round_index, pool.open_items,
        _curve(pool, earlier), frequencies=control_of(together).frequencies(together),
    )  # fmt: skip
    rng = np.random.default_rng([config.seed, round_index])
    try:
        return run_round(given, config=config, encoder=encoder, rng=rng, progress=step)
    finally:
        if encoder is not None:
            encoder.tell = None


def _curve(pool: DecisionPool, newest_first: Sequence[Version]) -> list[stopping.Earlier]:
    """The learning curve so far, oldest first: what the last versions lost on the labels of this pool."""
    rows = [(row, versions.facts_of(row.facts, pool.decision.key)) for row in reversed(newest_first)]
    return [stopping.Earlier.of(row.human_labels, facts.get("losses", {}), pool.label_keys) for row, facts in rows]


def _name(project: Project, decided: Sequence[Decided], config: LoopConfig, round_index: int) -> str:
    """The content address of all that the version was made from."""
    rows = sorted(labels.row_keys(*(part.pool.human for part in decided)))
    asked = [part.pool.decision.labels.key() for part in decided]
    texts = [digest(*(task.text_key for task in part.pool.tasks)) for part in decided]
    return digest(*project.fingerprints, *asked, *rows, *texts, config.model_dump_json(), str(round_index))[:8]


def _facts(project: Project, decided: Sequence[Decided]) -> dict[str, Any]:
    """Of the only decision, or sums over several and, under `decisions`, each one's own by its key."""
    panels = {row.key: [member.fingerprint for member in project.panel_of(row)] for row in project.decisions}
    each = {part.key: part.facts(panels[part.key]) for part in decided}
    rows = sorted(labels.row_keys(*(_human(decided, row.key) for row in project.decisions)))
    if len(project.decisions) == 1:
        return each[project.decision.key] | {"label_rows": rows}
    names = {part.key: part.pool.decision.name for part in decided}
    total = {key: sum(facts[key] for facts in each.values()) for key in ("negatives", "rows", "human_rows")}
    scores = _mean_scores(list(each.values()))
    return total | {
        "panel": project.fingerprints, "label_rows": rows, "losses": {}, "scores": scores,
        "accuracy": accuracy.of([part.pool for part in decided], scores),
        "pool": max(facts["pool"] for facts in each.values()),
        "notes": [f"{names[key]}: {_scores_line(facts['scores']) or 'no human label'}" for key, facts in each.items()],
        "people": people.together({names[key]: facts["people"] for key, facts in each.items()}),
        "decisions": each,
    }  # fmt: skip


def _human(decided: Sequence[Decided], key: str) -> Sequence[HumanLabel]:
    return next((part.pool.human for part in decided if part.key == key), ())


def _mean_scores(each: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean over all human labels of all decisions."""
    scored = [facts for facts in each if facts["scores"]]
    count = sum(len(facts["losses"]) for facts in scored)
    names = scored[0]["scores"] if scored else ()
    return {name: sum(len(row["losses"]) * row["scores"][name] for row in scored) / count for name in names}


def _people(decided: Sequence[Decided]) -> int:
    """How many labels people gave, each person's of a task counted once."""
    return len({(row.item, row.annotator) for part in decided for row in part.pool.human})


def _states(project: Project, decided: Sequence[Decided]) -> dict[str, FittedState]:
    """Fitted state by name; where there are several decisions, each name begins with the decision's number."""
    prefixes = [project.prefix_of(part.pool.decision) for part in decided]
    return {
        f"{prefix}{name}": state
        for prefix, part in zip(prefixes, decided, strict=True)
        for name, state in part.outcome.state.items()
    }


def _judge(published: Version | None, key: str, facts: dict[str, Any]) -> Verdict:
    """The gate on one decision: against what the published version says of it, if it had the same panel."""
    before, after = versions.facts_of(published.facts if published else {}, key), versions.facts_of(facts, key)
    comparable = before.get("panel") == after["panel"]
    losses: Mapping[str, float] = before.get("losses", {}) if comparable else {}
    return gate.compare(after["losses"], losses)


def _gate_line(verdicts: Mapping[str, Verdict]) -> str:
    if len(verdicts) == 1:
        return next(iter(verdicts.values())).line
    refused = [f"{name} {verdict.line}" for name, verdict in verdicts.items() if not verdict.accepted]
    if refused:
        return f"refused: {'; '.join(refused)}"
    return f"accepted (none of {len(verdicts)} decisions is significantly worse)"


def _publish(
    runtime: Runtime, project: Project, decided: Sequence[Decided], version: Version, config: LoopConfig
) -> bool:
    """Store the batch and publish it with its version, unless a pin holds: also one that came during the training."""
    batch_version = batches.next_name(runtime.store, project.id, version.id)
    entries = _entries(runtime, project, decided, version, config.batch_size + config.reserve)
    batches.save(runtime.store, project.id, batch_version, entries)
    return versions.publish(runtime.store, project.id, version.id, batch_version, pinned_at=project.pinned_at)


def _entries(
    runtime: Runtime, project: Project, decided: Sequence[Decided], version: Version, most: int
) -> list[StoredEntry]:
    """The batch: each decision's picks in turn, a task once, under the reason for which it came first."""
    picks = list(islice(_in_turn(decided), most))
    predicted = versions.of_tasks(runtime.store, project.id, version.id, [int(entry.item) for _, entry in picks])
    rows = []
    for rank, (part, entry) in enumerate(picks):
        task_id, reason = int(entry.item), f"{part.pool.decision.name}: {entry.reason}" if part.key else entry.reason
        words, sure = due.shown(project, predicted[task_id])
        rows.append(StoredEntry(task_id, rank, version.id, words, sure, reason, entry.gain))
    return rows


def _in_turn(decided: Sequence[Decided]) -> Iterator[tuple[Decided, BatchEntry]]:
    """Each decision in turn names the next of its picks that no other has named."""
    picks = [(part, iter(part.outcome.entries)) for part in decided]
    named: set[str] = set()
    while picks:
        for pick in list(picks):
            part, rest = pick
            entry = next((entry for entry in rest if entry.item not in named), None)
            if entry is None:
                picks.remove(pick)
            else:
                named.add(entry.item)
                yield part, entry


def _scores_line(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {scores[name]:.3f}" for name in ("accuracy", "log_loss", "ece") if name in scores)


def _line(version: Version) -> str:
    shown = _scores_line(version.facts["scores"])
    what = f"{version.id} from {version.human_labels} human labels and {version.facts['pool']} tasks"
    there = "on the labelled tasks, which were chosen for being hard, cross-fitted"
    return f"{what}: {version.facts['gate']}" + (f"; {there}: {shown}" if shown else "")
