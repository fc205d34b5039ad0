"""A new instruction for the panel: proposed, tried on labels that the proposal has not seen, applied, taken back.

Half of the labelled texts (the text decides which) is for proposing, the other half for judging alone. The panel reads
the judged texts under the new instruction; its answers are stored like all others, so that a trial that was stopped
goes on where it was, and what is applied is not asked again. Both instructions are judged by the same label-free pool.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mollm.acceptance.paired import Paired, judged
from mollm.errors import InputError
from mollm.mixture.logpool import LogPool
from mollm.records import BoolArray, FloatArray, Pool, Provenance, Signals, Targets, digest
from mollm.streams import stream
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import Store, audits, labels, projects, signals, tasks
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task

FEWEST = 30  # judged texts: with fewer, a difference would have to be huge to be told from chance
CHUNK = 16  # texts of a call; a stop loses at most one
SHOWN = 6  # disagreements that the writer is shown: more does not fit a small LLM's window
MOST_WORDS = 300  # characters of a text that it is shown
WRITTEN = 120  # tokens of a proposal: some four sentences
ANNOUNCED = re.compile(r'^[^":]{1,60}:\s*(?=")')  # as in: The new instruction is: "Sort ..."
KEY = "guidelines"  # in the project's options: tries, the last one, and the instructions before


@dataclass(frozen=True)
class Tried:
    """An instruction and how it did. `tokens`: what the trial cost, and what reading all tasks anew would cost."""

    instruction: str
    before: str
    attempt: int
    result: dict[str, Any]
    tokens: int
    tokens_for_all: int

    @property
    def paired(self) -> Paired:
        return Paired(**self.result)


def halves(store: Store, project: Project) -> tuple[list[tuple[Task, str]], list[tuple[Task, str]]]:
    """(for proposing, for judging): labelled texts, each with the label on which its people agree.

    What was bulk accepted is left out, since nobody looked; so are examples of the prompts.
    """
    decision = project.decision
    shots = {row[0] for row in project.options.get("shots", [])}
    there = {task.task_id: task for task in tasks.every(store, project.id) if not task.problem}
    said: dict[str, set[str]] = {}
    for row in labels.human_labels(audits.usable(store, project.id), decision.key):
        task = there.get(int(row.item))
        known = row.label in decision.labels.names and row.provenance is not Provenance.BULK_ACCEPTED
        if task is not None and known and task.text not in shots:
            said.setdefault(task.text_key, set()).add(row.label)
    by_text = {task.text_key: task for task in there.values()}
    agreed = sorted((key, next(iter(found))) for key, found in said.items() if len(found) == 1)
    rows = [(by_text[key], label) for key, label in agreed]
    judge = [int(digest("guidelines", task.text_key)[:8], 16) % 2 == 0 for task, _ in rows]
    return ([row for row, mine in zip(rows, judge, strict=True) if not mine],
            [row for row, mine in zip(rows, judge, strict=True) if mine])  # fmt: skip


def proposed(runtime: Runtime, project: Project) -> tuple[str, str]:
    """(an instruction, who wrote it): by the LLM of the panel that is right most often on the texts for proposing, from
    disagreements of people and the panel there; by the next best where that one writes nothing of use.

    Raises InputError where there is no disagreement, or no LLM of the panel can write.
    """
    rows, _judge = halves(runtime.store, project)
    decision = project.decision
    heard = signals.load(runtime.store, project, [task for task, _ in rows], decision)
    pooled = _pooled(heard)
    wrong = []
    for n, (task, label) in enumerate(rows):
        if not np.isnan(pooled[n]).any() and (other := decision.labels.names[int(pooled[n].argmax())]) != label:
            wrong.append((task.text or "", decision.labels.text_of(decision.labels.index(label)),
                          decision.labels.text_of(decision.labels.index(other))))  # fmt: skip
    if not wrong:
        raise InputError("The panel agrees with all labels that a proposal may see: there is nothing to propose from.")
    request = _request(project.instruction(runtime.panel.instruction), decision.labels.names, wrong[:SHOWN])
    truth = np.array([decision.labels.index(label) for _, label in rows])
    right = np.nan_to_num(heard.label_probs, nan=0.0).argmax(axis=2) == truth[:, None]
    best_first = np.argsort(-(right & ~heard.missing).sum(axis=0), kind="stable")
    members, refused = project.panel_of(decision), []
    for m in best_first.tolist():
        member = members[m]
        written = runtime.annotator(project, member).write(request, WRITTEN)
        lines = [ANNOUNCED.sub("", line.strip()).strip('"') for line in written.splitlines() if line.strip()]
        if lines and 20 <= len(lines[0]) <= 1000:
            return lines[0], member.name
        refused.append(member.name)
    raise InputError(f"No LLM of the panel wrote a usable instruction ({', '.join(refused)}): give one yourself.")


def _request(instruction: str, names: Sequence[str], wrong: Sequence[tuple[str, str, str]]) -> str:
    each = "\n".join(
        f'Text: "{" ".join(text.split())[:MOST_WORDS]}"\nRight: {label}\nWas answered: {other}\n'
        for text, label, other in wrong
    )
    return (
        f"A text is sorted into one of these labels: {', '.join(names)}.\nThe instruction is: {instruction.strip()}\n\n"
        f"These answers were wrong:\n\n{each}\nWrite a better instruction in two or three sentences, with which these "
        "answers would have been right. Write the instruction alone."
    )


def tried(runtime: Runtime, project: Project, instruction: str, tell: Callable[[str], None]) -> Tried:
    """Try an instruction on the labels for judging, and note it. Raises InputError where these are too few."""
    store, decision = runtime.store, project.decision
    _propose, judge = halves(store, project)
    if len(judge) < FEWEST:
        raise InputError(
            f"{len(judge)} labelled texts are there for judging; at least {FEWEST} are needed, which is some "
            f"{2 * FEWEST} labelled texts in all: label more first."
        )
    before = project.instruction(runtime.panel.instruction)
    if instruction.strip() == before.strip():
        raise InputError("This is the instruction that the panel has.")
    changed = replace(project, options=project.options | {"instruction": instruction})
    changed = replace(changed, panel=runtime.members(changed))
    rows, cost = [task for task, _ in judge], 0
    for one, name in ((project, "now"), (changed, "new")):
        for member in one.panel_of(decision):
            cost += _ask(runtime, one, member, rows, partial(_said, tell, name))
    truth = np.array([decision.labels.index(label) for _, label in judge])
    right: list[BoolArray] = []
    for one in (project, changed):
        probs = _pooled(signals.load(store, one, rows, decision))
        right.append(np.asarray(np.nan_to_num(probs, nan=-1.0).argmax(axis=1) == truth) & ~np.isnan(probs).any(axis=1))
    noted = project.options.get(KEY, {})
    attempt = int(noted.get("tries", 0)) + 1
    found = judged(right[0], right[1], attempt)
    made = Tried(instruction, before, attempt, asdict(found), cost, _tokens_for_all(store, project))
    _note(store, project.id, noted | {"tries": attempt, "last": asdict(made)})
    return made


def _said(tell: Callable[[str], None], which: str, line: str) -> None:
    tell(f"{which} instruction: {line}")


def _tokens_for_all(store: Store, project: Project) -> int:
    """What reading all tasks anew costs, by what the readings so far took."""
    total, unreadable = tasks.count(store, project.id)
    costs = signals.costs(store, project.id).values()
    a_text = sum(cost.prompt_tokens for cost in costs) / (sum(cost.texts for cost in costs) or 1)
    return round(a_text * (total - unreadable) * len(project.panel))


def _ask(
    runtime: Runtime, project: Project, member: PanelMember, rows: Sequence[Task], tell: Callable[[str], None]
) -> int:
    """Ask for what is not stored yet; returns the tokens that all these texts cost, as far as it is known."""
    known = signals.load(runtime.store, replace(project, panel=(member,)), list(rows), project.decision)
    todo = [task for task, missing in zip(rows, known.missing[:, 0], strict=True) if missing]
    spent = 0
    for start in range(0, len(todo), CHUNK):
        part = todo[start : start + CHUNK]
        begun = time.monotonic()
        answers = runtime.annotator(project, member).annotate([task.text or "" for task in part])
        found = [SignalRow(task.text_key, row.label_probs, row.votes, row.abstained, row.truncated)
                 for task, row in zip(part, answers, strict=True)]  # fmt: skip
        tokens = sum(row.prompt_tokens for row in answers), sum(row.completion_tokens for row in answers)
        cost = Cost(sum(row.calls for row in answers), len(part), *tokens, seconds=time.monotonic() - begun)
        signals.save(runtime.store, member, project.id, found, cost)
        spent += sum(tokens)
        tell(f"{member.name} has read {start + len(part)} of {len(todo)} texts")
    return spent


def _pooled(panel: Signals) -> FloatArray:
    """(n, C) the label-free pool; NaN where nobody has answered."""
    nobody = Targets(np.array([], dtype=np.int64), np.array([], dtype=np.int64), np.array([]))
    answered = ~panel.missing.all(axis=1)
    out = np.full((panel.N, panel.C), np.nan)
    if answered.any():
        heard = panel.take(np.asarray(answered))
        pool = LogPool().fit(Pool(heard, nobody), rng=stream(0, "guidelines"))
        out[answered] = pool.predict_proba(heard)
    return out


def last(project: Project) -> Tried | None:
    """The last trial; None where there was none."""
    noted = project.options.get(KEY, {}).get("last")
    return Tried(**noted) if noted else None


def apply(store: Store, project: Project) -> str:
    """Make the last trial's instruction the panel's. Raises InputError where it was not better, or was applied."""
    found = last(project)
    if found is None:
        raise InputError(f'No instruction was tried: `mollm guidelines {project.id} --instruction "..."` tries one.')
    if not found.paired.better:
        raise InputError("The last instruction was not shown to be better: nothing is changed.")
    if project.options.get("instruction", "") == found.instruction:
        raise InputError("The last instruction is applied already.")
    noted = project.options.get(KEY, {})
    before = [*noted.get("before", []), project.options.get("instruction", "")]
    _note(store, project.id, noted | {"before": before}, instruction=found.instruction)
    return found.instruction


def back(store: Store, project: Project) -> str:
    """Take the last applied instruction back; returns the one that holds then ("": the panel's own words).

    Raises InputError where none was applied.
    """
    noted = project.options.get(KEY, {})
    before = list(noted.get("before", []))
    if not before:
        raise InputError("No instruction was applied: there is nothing to take back.")
    instruction = str(before.pop())
    _note(store, project.id, noted | {"before": before}, instruction=instruction)
    return instruction


def _note(store: Store, project_id: int, noted: dict[str, Any], **options: Any) -> None:
    now = projects.get(store, project_id).options
    projects.change(store, project_id, options=now | options | {KEY: noted})
