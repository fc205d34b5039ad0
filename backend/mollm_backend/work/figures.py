"""What is known of a project's labels, decision by decision: each class on audited tasks, and who agrees with whom.

Each figure stands with the number of tasks that it rests on and its interval, or with the reason why it is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mollm.acceptance.per_class import PerClass, per_class
from mollm.people.agreement import Agreement, between_people, confusion, labels_of, with_llms
from mollm.records import IntArray
from mollm_backend.store import Store, audit_answers, audits, labels, signals, tasks
from mollm_backend.store.audits import Audit
from mollm_backend.store.decisions import Decision
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project


def of_project(store: Store, project: Project) -> dict[str, Any]:
    """JSON-able: `decisions` by key, each with `agreement` and `classes`; `lines` say it to people."""
    rows = audits.usable(store, project.id)
    audit = audits.measuring(store, project.id)
    each, lines = dict[str, Any](), list[str]()
    for decision in project.decisions:
        prefix = f"{decision.name}: " if decision.key else ""
        agreed, said = _agreement(store, project, decision, rows)
        classes = None if audit is None else _classes(store, project.id, decision, audit)
        found = [*said, *(_class_lines(decision, audit, classes) if audit and classes else [])]
        each[decision.key] = {
            "labels": list(decision.labels.names), "agreement": agreed,
            "classes": None if audit is None or classes is None else {"audit": audit.id, **classes.as_json()},
        }  # fmt: skip
        lines += [prefix + line for line in found]
    return {"decisions": each, "lines": lines}


def _agreement(
    store: Store, project: Project, decision: Decision, rows: Sequence[Annotation]
) -> tuple[dict[str, Any], list[str]]:
    """People with each other and with each LLM: JSON-able, and in lines."""
    column = {name: c for c, name in enumerate(decision.labels.names)}
    mine = [row for row in labels.counted(rows, decision.key) if row.label in column]
    known = tasks.some(store, project.id, sorted({row.task_id for row in mine}))
    mine = [row for row in mine if row.task_id in known and not known[row.task_id].problem]
    listed = sorted({row.task_id for row in mine})
    if not listed:
        return {"people": None, "llms": {}}, []
    place = {task: n for n, task in enumerate(listed)}
    item = np.array([place[row.task_id] for row in mine], dtype=np.int64)
    label = np.array([column[row.label or ""] for row in mine], dtype=np.int64)
    panel = signals.load(store, project, [known[task] for task in listed], decision)
    said, C = labels_of(panel.label_probs), decision.labels.C
    people = between_people(item, np.array([row.user_id for row in mine], dtype=np.int64), label, C)
    llms = dict(zip(panel.annotators, with_llms(item, label, said, C), strict=True))
    tables = dict(zip(panel.annotators, confusion(item, label, said, C).tolist(), strict=True))
    as_json = {
        "people": people.as_json(),
        "llms": {name: {**found.as_json(), "confusion": tables[name]} for name, found in llms.items()},
    }
    lines = [_line("people with each other", people)] if people.n else []
    return as_json, lines + [_line(f"people with {name}", found) for name, found in llms.items()]


def _line(who: str, found: Agreement) -> str:
    """One line: the share of equal labels, and what is left of it beyond chance."""
    beyond = f"Krippendorff's alpha {found.alpha.line()}"
    kappa = f", Cohen's kappa {found.kappa.line()}" if found.kappa.estimate is not None else ""
    return f"{who}: the same label on {found.raw.line()}; {beyond}{kappa}"


def _classes(store: Store, project_id: int, decision: Decision, audit: Audit) -> PerClass | None:
    """Each class on the tasks of a decided audit, weighted to all tasks that it was drawn from.

    None of no answer, and of a decision that is asked in some tasks only: of the others nothing is known.
    """
    answers, then = audit_answers.of(store, project_id, audit), audits.frozen_of(store, project_id, audit.id)
    if decision.key not in then.codes or decision.conditions:
        return None
    names = then.names[decision.key]
    code = {name: c for c, name in enumerate(names)}
    begins = np.concatenate([[0], np.cumsum([part.tasks for part in audit.parts])])
    heard = [n for n, row in enumerate(answers.said) if row is not None and row.get(decision.key) in code]
    if not heard:
        return None
    truth = np.array([code[(answers.said[n] or {})[decision.key]] for n in heard], dtype=np.int64)
    at = begins[answers.part[heard]] + answers.place[heard]
    predicted = then.codes[decision.key][at]
    return per_class(
        truth, predicted, 1 / answers.probability[heard], _pool(then.codes[decision.key], audit, len(names))
    )


def _pool(codes: IntArray, audit: Audit, C: int) -> IntArray:
    """(C,) how many of the tasks that the audit was drawn from have each predicted label."""
    begins = np.concatenate([[0], np.cumsum([part.tasks for part in audit.parts])])[:-1]
    inside = np.concatenate([codes[b : b + part.region] for b, part in zip(begins, audit.parts, strict=True)])
    return np.bincount(inside, minlength=C)


def _class_lines(decision: Decision, audit: Audit, classes: PerClass) -> list[str]:
    drawn, tasks_then = sum(part.region for part in audit.parts), sum(part.tasks for part in audit.parts)
    which = f"the {drawn} most confident of {tasks_then}" if drawn < tasks_then else f"all {tasks_then}"
    head = f"by class, from {audit.id}, of {which} tasks open then:"
    return [
        head,
        *(f"  {line}" for line in classes.lines([decision.labels.text_of(c) for c in range(decision.labels.C)])),
    ]
