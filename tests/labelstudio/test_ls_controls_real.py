"""Every kind of control there and back on a real Label Studio: connect, read, train, publish, serve, label, refit.

A person's JSON is written here by hand, as the labelling page writes it, and not by the code under test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import redis

from mollm.annotators import Answer
from mollm.records import Provenance, digest
from mollm_backend import jobs
from mollm_backend.doctor.label_studio import examine
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect
from mollm_backend.labelstudio.events import AskedTask
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, labels, projects, versions
from mollm_backend.store.decisions import Decision
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.web import lookup
from mollm_backend.work import queues
from tests.backend.conftest import connection, queue_url  # noqa: F401 - fixtures

pytestmark = pytest.mark.label_studio
TEXT = '<Text name="text" value="$text"/>'
TONE = '<Choices name="tone" toName="text"><Choice value="good"/><Choice value="bad" alias="b"/></Choices>'
FLAGS = (
    '<Choices name="flags" toName="text" choice="multiple"><Choice value="urgent"/><Choice value="rude" alias="r"/>'
    '<Choice value="long"/></Choices>'
)
TOPIC = (
    '<Taxonomy name="topic" toName="text"><Choice value="Sport"><Choice value="Football" alias="fb"/>'
    '<Choice value="Chess"/></Choice><Choice value="Other"/></Taxonomy>'
)
STARS = '<Rating name="stars" toName="text" maxRating="4"/>'
TEXTS = [f"text number {n}" for n in range(12)]
PLAIN = [{"text": text} for text in TEXTS]
CONFIGS = {
    "choices": TEXT + TONE,
    "aliases in HyperText": '<HyperText name="text" value="$text"/>' + TONE,
    "several": TEXT + TONE + '<Choices name="kind" toName="text"><Choice value="x"/><Choice value="y"/></Choices>',
    "multiple": TEXT + FLAGS,
    "taxonomy": TEXT + TOPIC,
    "rating": TEXT + STARS,
    "pairwise": (
        '<Text name="one" value="$one"/><Text name="two" value="$two"/><Pairwise name="best" toName="one,two"/>'
    ),
    "dialogue": '<Paragraphs name="text" value="$talk" layout="dialogue"/>' + TONE,
    "all on one text": TEXT + TONE + FLAGS + TOPIC + STARS,
    "beside what people fill": (
        TEXT + TONE + '<TextArea name="why" toName="text"/><Number name="n" toName="text"/>'
        '<Labels name="parts" toName="text"><Label value="A"/></Labels><DateTime name="day" toName="text"/>'
        '<Choices name="more" toName="text" visibleWhen="region-selected" whenTagName="parts" whenLabelValue="A">'
        '<Choice value="x"/><Choice value="y"/></Choices>'
    ),
}
DATA = {
    "pairwise": [{"one": text, "two": f"not {text}"} for text in TEXTS],
    "dialogue": [{"talk": [{"author": "A", "text": text}, {"author": "B", "text": "yes"}]} for text in TEXTS],
}


def by_hand(labels_of_task: dict[str, str]) -> list[dict[str, Any]]:
    """What the labelling page sends for these labels (by the decision's name)."""
    values: dict[str, tuple[str, dict[str, Any]]] = {}
    flags = sorted(name.split("/")[1] for name, label in labels_of_task.items() if label == "applies")
    if flags:  # the page sends no part where nothing is ticked
        values["flags"] = "choices", {"choices": flags}
    for name, label in labels_of_task.items():
        if name in ("tone", "kind"):
            values[name] = "choices", {"choices": [label]}
        elif name == "topic":
            values[name] = "taxonomy", {"taxonomy": [label.split(" / ")]}
        elif name == "stars":
            values[name] = "rating", {"rating": int(label)}
        elif name == "best":
            values[name] = "pairwise", {"selected": label}
    return [
        {"id": f"id-{name}", "from_name": name, "to_name": name if name == "best" else "text", "type": kind,
         "origin": "manual", "value": value}
        for name, (kind, value) in values.items()
    ]  # fmt: skip


def plain(result: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A result as control to value, flags in any order."""
    values = {part["from_name"]: part["value"] for part in result}
    if "flags" in values:
        values["flags"] = {"choices": sorted(values["flags"]["choices"])}
    return values


class Oracle:
    """An annotator that answers by the text and what it is asked, nearly always the same for both of the panel."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.asked: list[str] = []

    def says(self, text: str) -> str:
        place = int(digest(text, self.decision.name)[:8], 16) % self.decision.asked.C
        return self.decision.asked.names[place]

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        self.asked += texts
        answers = []
        for text in texts:
            probs = np.full(self.decision.asked.C, 0.05)
            probs[self.decision.asked.index(self.says(text))] = 1 - 0.05 * (self.decision.asked.C - 1)
            answers.append(Answer(probs, probs))
        return answers


@dataclass
class Site:
    """One connected project: what a person and the worker do with it."""

    client: LabelStudioClient
    runtime: Runtime
    number: int
    oracles: dict[tuple[str, str], Oracle]

    @property
    def project(self) -> Project:
        return projects.get(self.runtime.store, self.number)

    @property
    def version(self) -> versions.Version:
        found = versions.find(self.runtime.store, self.number, self.project.published_version)
        assert found is not None
        return found

    def work(self) -> None:
        """What the worker does after an event: reconcile, read what is missing, train, publish."""
        jobs.reconcile(self.number)
        for name in dict.fromkeys(member.name for member in self.project.panel):
            jobs.annotate(self.number, name)
        queues.request_training(self.runtime.connection, self.number)
        jobs.train(self.number)
        jobs.publish(self.number)

    def said(self, task: int) -> dict[str, str]:
        """The published version's labels of a task, by the decision's name."""
        rows = versions.of_tasks(self.runtime.store, self.number, self.version.id, [task])[task]
        return {decision.name: rows[decision.key].label for decision in self.project.decisions}

    def next(self) -> dict[str, Any]:
        task = self.client.next_task(self.number)
        assert task is not None
        return task

    def submit(self, task: int, result: list[dict[str, Any]], parent: int | None, **more: Any) -> int:
        body = {"result": result, "lead_time": 1.0, "parent_prediction": parent} | more
        return int(self.client._raw("submit", "POST", f"api/tasks/{task}/annotations/", body=body)["id"])

    def annotations(self, number: int) -> dict[str, Annotation]:
        """The rows of an annotation in the store, by the decision's name."""
        names = {decision.key: decision.name for decision in self.project.decisions}
        rows = labels.every(self.runtime.store, self.number)
        return {names[row.decision]: row for row in rows if row.annotation_id == number}

    def change(self, config: str) -> None:
        self.client.patch_project(self.number, label_config=f"<View>{config}</View>")

    def asked(self) -> dict[str, int]:
        """How many texts each decision's annotators were asked for since the last look."""
        counts: dict[str, int] = {}
        for oracle in self.oracles.values():
            counts[oracle.decision.name] = counts.get(oracle.decision.name, 0) + len(oracle.asked)
            oracle.asked.clear()
        return {name: count for name, count in counts.items() if count}


Open = Callable[[str, list[dict[str, Any]]], Site]


@pytest.fixture
def open_site(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, monkeypatch: pytest.MonkeyPatch,
    connection: redis.Redis,  # noqa: F811
) -> Open:  # fmt: skip
    """Make a project of a label config and tasks, and connect it."""

    def opened(config: str, data: list[dict[str, Any]]) -> Site:
        whole = config if config.lstrip().startswith("<View") else f"<View>{config}</View>"
        number = client.create_project("controls", whole)
        client.import_tasks(number, data)
        connect(store, client, settings, number, recorder.url, check_order=False)
        runtime = Runtime(settings, store, connection)
        jobs.install(runtime)
        oracles: dict[tuple[str, str], Oracle] = {}

        def annotator(project: Project, member: PanelMember) -> Oracle:
            asked = oracles.setdefault((member.name, member.fingerprint), Oracle(project.decision_of(member)))
            asked.decision = project.decision_of(member)
            return asked

        monkeypatch.setattr(runtime, "client", lambda: client)
        monkeypatch.setattr(runtime, "annotator", annotator)
        monkeypatch.setattr(runtime, "encoder", lambda: None)
        return Site(client, runtime, number, oracles)

    return opened


@pytest.mark.parametrize("kind", CONFIGS)
def test_there_and_back(kind: str, open_site: Open) -> None:
    site = open_site(CONFIGS[kind], DATA.get(kind, PLAIN))
    site.work()
    decisions = site.project.decisions
    assert site.version.human_labels == 0
    assert len(batches.entries(site.runtime.store, site.number, site.project.batch_version or "")) == len(TEXTS)

    # What the stream serves is what the version says, in the control's own JSON; and so is what /predict answers.
    first = site.next()
    (shown,) = first["predictions"]
    said = site.said(first["id"])
    assert shown["model_version"] == site.project.batch_version
    assert plain(shown["result"]) == plain(by_hand(said))
    assert all(0 < part["score"] <= 1 for part in shown["result"])
    (answer,) = lookup.answers(site.runtime.store, site.project, [AskedTask(first["id"], first["data"])])
    assert plain(answer["result"]) == plain(by_hand(said))

    # One person accepts, edits the next in its last decision, works from scratch on the third, skips the fourth.
    done = {"accepted": site.submit(first["id"], by_hand(said), shown["id"])}
    expected = {"accepted": said}
    second = site.next()
    edited = dict(site.said(second["id"]))
    last = decisions[-1]
    edited[last.name] = next(name for name in last.labels.names if name != edited[last.name])
    (seen,) = second["predictions"]
    done["edited"] = site.submit(second["id"], by_hand(edited), seen["id"])
    expected["edited"] = edited
    third = site.next()
    expected["scratch"] = {decision.name: decision.labels.names[0] for decision in decisions}
    done["scratch"] = site.submit(third["id"], by_hand(expected["scratch"]), None)
    fourth = site.next()
    skipped = site.submit(fourth["id"], [], fourth["predictions"][0]["id"], was_cancelled=True)

    # They come back as human labels, each with its provenance, and teach the next version.
    site.asked()
    site.work()
    assert site.asked() == {}
    # A page that showed nothing ticked pulls nobody.
    how = {
        "accepted": Provenance.ACCEPTED if shown["result"] else Provenance.FROM_SCRATCH,
        "edited": Provenance.EDITED if seen["result"] else Provenance.FROM_SCRATCH,
        "scratch": Provenance.FROM_SCRATCH,
    }
    for name, number in done.items():
        rows = site.annotations(number)
        assert {key: row.label for key, row in rows.items()} == expected[name]
        assert {row.problem for row in rows.values()} == {""}
        assert {row.provenance for row in rows.values()} == {how[name]}
    assert {row.label for row in site.annotations(skipped).values()} == {None}
    assert site.version.human_labels == 3
    assert site.version.round == 1
    closed = {task["id"] for task in (first, second, third, fourth)}
    batch = batches.entries(site.runtime.store, site.number, site.project.batch_version or "")
    assert {entry.task_id for entry in batch}.isdisjoint(closed)
    assert len(batch) == len(TEXTS) - 4
    after = site.next()
    assert after["id"] == batch[0].task_id
    mine = [row for row in after["predictions"] if row["model_version"] == site.project.batch_version]
    assert plain(mine[0]["result"]) == plain(by_hand(site.said(after["id"])))
    findings = examine(site.runtime.store, site.client, site.runtime.settings, site.number)
    assert sum(finding.name == "decision" for finding in findings) == len({row.control for row in decisions})
    left = [finding.line for finding in findings if finding.name == "left-to-people"]
    assert bool(left) == ("TextArea" in site.project.label_config)


def test_bulk_accepted_predictions_are_labels_of_every_decision(open_site: Open) -> None:
    site = open_site(CONFIGS["all on one text"], PLAIN)
    site.work()
    ids = [
        entry.task_id for entry in batches.entries(site.runtime.store, site.number, site.project.batch_version or "")
    ]
    body = {"selectedItems": {"all": False, "included": ids[:3]}, "model_version": site.project.batch_version}
    query = {"id": "predictions_to_annotations", "project": site.number}
    site.client._raw("bulk", "POST", "api/dm/actions/", params=query, body=body)
    expected = {task: site.said(task) for task in ids[:3]}
    site.work()
    names = {decision.key: decision.name for decision in site.project.decisions}
    found: dict[int, dict[str, str | None]] = {}
    for row in labels.every(site.runtime.store, site.number):
        assert row.provenance is Provenance.BULK_ACCEPTED
        found.setdefault(row.task_id, {})[names[row.decision]] = row.label
    assert found == expected


def test_a_config_that_grows_and_shrinks_asks_only_what_is_new(open_site: Open) -> None:
    site = open_site(TEXT + TONE, PLAIN)
    site.work()
    assert site.asked() == {"tone": 2 * len(TEXTS)}
    task = site.next()
    number = site.submit(task["id"], by_hand({"tone": "b"}), None)
    site.change(TEXT + TONE + STARS)
    site.work()
    assert site.asked() == {"stars": 2 * len(TEXTS)}
    assert {key: row.label for key, row in site.annotations(number).items()} == {"tone": "b", "stars": None}
    assert set(site.version.facts["decisions"]) == {"tone", "stars"}
    served = site.next()
    mine = [row for row in served["predictions"] if row["model_version"] == site.project.batch_version]
    assert set(plain(mine[0]["result"])) == {"tone", "stars"}
    # A third label for the first control: the second one is not asked again.
    site.change(TEXT + TONE.replace("</Choices>", '<Choice value="so so"/></Choices>') + STARS)
    site.work()
    assert site.asked() == {"tone": 2 * len(TEXTS)}
    assert {row.label for row in site.annotations(number).values()} == {"b", None}
    # Without it, all is as it was in the beginning: nothing is asked.
    site.change(TEXT + TONE)
    site.work()
    assert site.asked() == {}
    assert {key: row.label for key, row in site.annotations(number).items()} == {"tone": "b"}
    assert site.project.decision.key == ""
    assert site.version.human_labels == 1
