"""The provenance of a label (how it was made), read from an annotation in the JSON export.

Three fields are used: `parent_prediction` (the pre-annotation it was made from; null after that is deleted),
`prediction` (a copy of what was shown at Submit; empty for "create annotations from predictions"), and the `origin` of
the result's parts ("prediction", "prediction-changed" or "manual"), which the labelling page writes.

What a certificate accepted carries the certificate in the ids of its parts, until a person touches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mollm.records import Provenance
from mollm_backend.labelstudio.label_config import labels_of
from mollm_backend.store.certificates import MARK
from mollm_backend.store.decisions import Decision
from mollm_backend.store.labels import Annotation

Lookup = Callable[[int], Mapping[str, Any] | None]  # a prediction by its id; None: it is deleted
Labels = Mapping[str, str | None]  # by the decision's key


def annotation_of(
    raw: Mapping[str, Any], decisions: Sequence[Decision], known: Sequence[Annotation], look_up: Lookup
) -> list[Annotation]:
    """An exported annotation as rows of the store, one for each decision. `known`: its rows already in the store.

    `look_up` is called only if the annotation and `known` do not answer. All rows have the provenance of the whole
    annotation: it is "edited" if the label of any decision differs from what was shown.
    """
    cancelled = bool(raw.get("was_cancelled"))
    answers = labels_of(raw.get("result"), decisions)
    if cancelled:
        answers = dict.fromkeys(answers, (None, ""))
    labels = {key: label for key, (label, _) in answers.items()}
    parent, before = raw.get("parent_prediction"), known[0] if known else None
    shown = _shown(raw, before, look_up)
    shown_labels = _shown_labels(raw, decisions, known, labels, shown)
    person = raw.get("completed_by")
    if isinstance(person, Mapping):
        person = person.get("id")
    version = str(shown["model_version"]) if shown and shown.get("model_version") else None
    if shown is None and before is not None and before.parent_prediction == parent:
        version = before.shown_version
    provenance = _provenance(raw, labels, shown_labels, came_from=_came_from(raw, before, shown))
    if certificate := certified_by(raw):
        provenance, version, shown_labels = Provenance.CERTIFIED, certificate, labels
    return [
        Annotation(
            annotation_id=int(raw["id"]), task_id=int(raw["task"]), user_id=int(person or 0), label=label,
            was_cancelled=cancelled, provenance=provenance,
            parent_prediction=parent, shown_version=version, shown_label=shown_labels.get(key),
            created_at=str(raw.get("created_at") or ""), updated_at=str(raw.get("updated_at") or ""), problem=problem,
            decision=key,
        )
        for key, (label, problem) in answers.items()
    ]  # fmt: skip


def _shown_labels(
    raw: Mapping[str, Any], decisions: Sequence[Decision], known: Sequence[Annotation], labels: Labels,
    shown: Mapping[str, Any] | None,
) -> Labels:  # fmt: skip
    """The label that the person saw chosen in each decision; None or missing if it is not known."""
    if _is_bulk(raw):
        return labels
    found = {key: label for key, (label, _) in labels_of(shown.get("result"), decisions).items()} if shown else {}
    if known and raw.get("parent_prediction") is not None:
        seen = {row.decision: row.shown_label for row in known if row.parent_prediction == raw["parent_prediction"]}
        found |= {key: label for key, label in seen.items() if label is not None}
    return found


def _came_from(raw: Mapping[str, Any], known: Annotation | None, shown: Mapping[str, Any] | None) -> bool:
    """Whether the person saw a label before choosing; False if the prediction was left empty on purpose."""
    if shown is not None:
        return bool(shown.get("result"))
    if raw.get("parent_prediction") is None:
        return False
    return known is None or known.parent_prediction is None or known.provenance is not Provenance.FROM_SCRATCH


def _shown(raw: Mapping[str, Any], known: Annotation | None, look_up: Lookup) -> Mapping[str, Any] | None:
    """The pre-annotation that the label was made from; None if there was none or it cannot be found any more."""
    parent, copy = raw.get("parent_prediction"), raw.get("prediction") or None
    if parent is not None:
        if copy and copy.get("id") == parent:
            return copy  # type: ignore[no-any-return]
        settled = known is not None and known.parent_prediction == parent
        return None if settled or _is_bulk(raw) else look_up(int(parent))
    if not copy or bool(raw.get("was_cancelled")):
        return None
    if any(origin.startswith("prediction") for origin in _origins(raw)):
        return copy  # type: ignore[no-any-return]
    if known is not None and known.provenance is Provenance.FROM_SCRATCH:
        return None
    # A prediction was shown, and no parent is named. If it is deleted by now, it was the parent; else it was not used.
    deleted = copy.get("id") is not None and look_up(int(copy["id"])) is None
    return copy if deleted else None


def _is_bulk(raw: Mapping[str, Any]) -> bool:
    """Whether it was made by "create annotations from predictions": no copy of a prediction, no time, no editor."""
    return (
        raw.get("parent_prediction") is not None
        and not raw.get("prediction")
        and raw.get("lead_time") is None
        and raw.get("updated_by") is None
    )


def certified_by(raw: Mapping[str, Any]) -> str:
    """The model version of the certificate that accepted this annotation; "" where a person made or touched it."""
    untouched = raw.get("lead_time") is None and raw.get("updated_by") is None and not raw.get("prediction")
    if not untouched or bool(raw.get("was_cancelled")):
        return ""
    result = raw.get("result")
    parts = result if isinstance(result, list) else []
    names = {str(part.get("id") or "").rpartition(".")[0] for part in parts if isinstance(part, Mapping)}
    name = names.pop() if len(names) == 1 else ""
    return name if name.startswith(MARK) else ""


def marked(result: list[dict[str, Any]], version: str) -> list[dict[str, Any]]:
    """A result whose parts carry the certificate's version, as `certified_by` finds it."""
    return [part | {"id": f"{version}.{n}"} for n, part in enumerate(result)]


def _origins(raw: Mapping[str, Any]) -> list[str]:
    result = raw.get("result")
    parts = result if isinstance(result, list) else []
    return [str(part.get("origin") or "") for part in parts if isinstance(part, Mapping)]


def _provenance(raw: Mapping[str, Any], labels: Labels, shown: Labels, *, came_from: bool) -> Provenance:
    if not came_from or bool(raw.get("was_cancelled")):
        return Provenance.FROM_SCRATCH
    known = {key: label for key, label in shown.items() if label is not None}
    if any(labels.get(key) != label for key, label in known.items()):
        return Provenance.EDITED
    if not known and "prediction-changed" in _origins(raw):
        return Provenance.EDITED
    return Provenance.BULK_ACCEPTED if _is_bulk(raw) else Provenance.ACCEPTED
