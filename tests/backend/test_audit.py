"""Audit tasks are drawn once, shown blind at random places, and kept apart until the audit ends."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import redis
from click.testing import Result
from typer.testing import CliRunner

from mollm.errors import InputError
from mollm.records import LabelSet, Provenance
from mollm_backend import cli, jobs
from mollm_backend.jobs import audit_outlook, auditing, due, pools
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio import publish
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.events import AskedTask
from mollm_backend.settings import Settings
from mollm_backend.store import Store, audits, batches, labels, projects, tasks, versions
from mollm_backend.store.audits import Audit
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from mollm_backend.web import lookup
from tests.labelstudio.test_ls_publish import FakePages

from .conftest import add_texts

N = 60
AUDITS = 20


@pytest.fixture
def pages() -> FakePages:
    return FakePages()


@pytest.fixture
def runtime(
    settings: Settings, store: Store, connection: redis.Redis, pages: FakePages, monkeypatch: pytest.MonkeyPatch
) -> Runtime:
    """A worker of a project whose first version knows 60 tasks, of which its batch holds 20."""
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    opened = Runtime(settings, store, connection)
    opened._client = cast(LabelStudioClient, pages)
    jobs.install(opened)
    projects.change(store, 7, options={"batch_size": 10, "loop": {"reserve": 10}})
    add_texts(store, N)
    jobs.train(7)
    return opened


def project(store: Store) -> Project:
    return projects.get(store, 7)


def batch(store: Store) -> list[StoredEntry]:
    return batches.entries(store, 7, project(store).batch_version or "")


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["audit", "7", *words], catch_exceptions=False)


def told(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--json").stdout)
    return found


def drawn(store: Store, *words: str) -> Audit:
    assert told("--labels", str(AUDITS), "--seed", "5", *words)["id"]
    audit = audits.newest(store, 7)
    assert audit is not None
    return audit


def answer(store: Store, task_ids: Sequence[int], said: str = "cat") -> None:
    rows = [Annotation(100 + n, n, 1, said, False, Provenance.FROM_SCRATCH) for n in task_ids]
    labels.upsert(store, 7, rows)


def ids(store: Store, audit: Audit) -> list[int]:
    return [row.task_id for row in audits.tasks_of(store, 7, audit.id)]


def test_every_way_to_mix_is_equally_likely() -> None:
    picks = [StoredEntry(n, 0, "v", "cat", 0.5, "why") for n in (1, 2)]
    blank = [StoredEntry(n, 0, "v", "", 0.0, batches.BLIND) for n in (8, 9)]
    rng = np.random.default_rng(0)
    found = [tuple(row.task_id for row in auditing._at_random(picks, blank, rng)) for _ in range(3000)]
    assert all([n for n in order if n < 5] == [1, 2] and [n for n in order if n > 5] == [8, 9] for order in found)
    _orders, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 500) ** 2 / 500).sum() < 20.5  # chi-squared with 5 degrees: one seed in 1000


def test_an_audit_is_drawn_from_all_that_is_open_and_mixed_into_the_batch_blind(
    runtime: Runtime, pages: FakePages
) -> None:
    store, before = runtime.store, batch(runtime.store)
    answer(store, [1, 2])
    audit = drawn(store)
    mine = ids(store, audit)
    assert len(set(mine)) == AUDITS
    assert not {1, 2} & set(mine)
    part = audit.parts[0]
    assert (part.kind, part.region, part.tasks) == ("simple", N - 2, N - 2)
    assert {row.probability for row in audits.tasks_of(store, 7, audit.id)} == {AUDITS / (N - 2)}
    mixed = batch(store)
    assert [row.task_id for row in mixed if row.blind] == mine
    kept = [row.task_id for row in before if row.task_id not in {1, 2, *mine}]
    assert [row.task_id for row in mixed if not row.blind] == kept
    assert [row.rank for row in mixed] == list(range(len(mixed)))
    assert {row.version for row in mixed} == {project(store).published_version}
    jobs.publish(7)
    held = {task: result for task, version, _, result in pages.held if version == pages.remote.model_version}
    assert pages.remote.model_version == project(store).batch_version
    assert {task for task, result in held.items() if not result} == set(mine)
    assert pages.order(project(store).batch_version or "") == [row.task_id for row in mixed]


def test_nobody_is_told_which_tasks_are_audited(runtime: Runtime) -> None:
    store = runtime.store
    projects.change(store, 7, options=project(store).options | {"blind_share": 0.5})
    mine = set(ids(store, drawn(store)))
    texts = {row.task_id: row.text for row in tasks.every(store, 7)}
    asked = [AskedTask(n, {"text": texts[n]}) for n in sorted(mine)]
    assert lookup.answers(store, project(store), asked) == [{}] * AUDITS
    shown = publish.as_people_see(store, project(store), batch(store))
    blind = {row.task_id for row in shown if row.blind}
    assert blind > mine, "some of the strategy's picks are blind too"
    assert len({(row.label, row.confidence, row.reason, row.gain) for row in shown if row.blind}) == 1
    output = CliRunner().invoke(cli.app, ["next-batch", "7", "--json"]).output
    assert {row["task_id"] for row in json.loads(output) if row["label"] == ""} == blind
    assert "audit" not in output
    why = CliRunner().invoke(cli.app, ["explain", "7", str(min(mine))]).output
    assert "a task of an audit" in why


def test_what_is_said_of_audit_tasks_is_learned_only_after_the_audit(runtime: Runtime) -> None:
    store = runtime.store
    audit = drawn(store, "--target", "0.5")
    mine = ids(store, audit)
    answer(store, mine)
    assert due.training_reason(store, project(store), 1, requested=True) is None
    (pool,) = pools.read_pools(runtime, project(store))
    assert not pool.human
    assert pool.people["users"] == {}
    asked = {task.task_id for task, is_open in zip(pool.tasks, pool.open_items, strict=True) if is_open}
    assert asked == set(range(1, N + 1)) - set(mine)
    report = json.loads(CliRunner().invoke(cli.app, ["report", "7", "--json"]).stdout)["projects"][0]
    assert report["people"]["users"] == {}
    assert (report["audit"]["answered"], report["audit"]["total"]) == (AUDITS, AUDITS)
    audits.decide(store, 7, audit.id)
    assert due.training_reason(store, project(store), 1) is not None
    (pool,) = pools.read_pools(runtime, project(store))
    assert len(pool.human) == AUDITS


def served(store: Store, pages: FakePages) -> tuple[set[int], set[int]]:
    """The open tasks of the batch that Label Studio shows now: (blind, with a label)."""
    assert pages.remote.model_version == project(store).batch_version
    still_open = batches.open_tasks(store, 7, pages.remote.model_version)
    shown = {task: bool(result) for task, version, _, result in pages.held if version == pages.remote.model_version}
    return {n for n in still_open if not shown[n]}, {n for n in still_open if shown[n]}


def test_a_refill_and_a_new_version_go_on_with_the_open_audit(runtime: Runtime, pages: FakePages) -> None:
    store, first = runtime.store, project(runtime.store).published_version
    mine = ids(store, drawn(store, "--target", "0.5"))
    jobs.publish(7)
    assert served(store, pages)[0] == set(mine)
    answer(store, [*mine[:15], *served(store, pages)[1]], "dog")
    jobs.publish(7)  # a refill: what the strategy chose is used up
    blind, labelled = served(store, pages)
    assert (blind, project(store).published_version) == (set(mine[15:]), first)
    assert labelled
    assert not labelled & set(mine)
    jobs.queues.request_training(runtime.connection, 7)
    jobs.train(7)
    assert project(store).published_version != first
    jobs.publish(7)
    blind, labelled = served(store, pages)
    assert blind == set(mine[15:])
    assert labelled
    assert not labelled & set(mine)
    newest = versions.newest(store, 7)
    assert newest is not None
    assert not {int(row.split("/")[0]) for row in newest.facts["losses"]} & set(mine)


def test_the_base_layer_leaves_out_the_open_audit(runtime: Runtime, pages: FakePages) -> None:
    store, version = runtime.store, project(runtime.store).published_version or ""
    mine = ids(store, drawn(store))
    publish.prelabel(store, cast(LabelStudioClient, pages), 7, version)
    assert {task for task, held, _, _ in pages.held if held == version} == set(range(1, N + 1)) - set(mine)
    run("--cancel")
    publish.prelabel(store, cast(LabelStudioClient, pages), 7, version)
    assert {task for task, held, _, _ in pages.held if held == version} == set(range(1, N + 1))


def test_an_audit_that_was_cut_off_before_it_was_mixed_in_is_not_drawn_again(runtime: Runtime) -> None:
    store, now = runtime.store, project(runtime.store)
    planned = audit_outlook.plan(store, now, audit_outlook.Wanted(labels=AUDITS, seed=5))
    rows = auditing.draw(planned.rest, planned.text_keys, planned.audit.parts, np.random.default_rng(0))
    audit = audits.make(store, 7, planned.audit, planned.rest, rows)  # killed here
    with pytest.raises(InputError, match=r"audit-1 is open.*--cancel"):
        run("--labels", str(AUDITS))
    assert due.publishing_reason(store, now) == auditing.NOT_SERVED
    jobs.publish(7)
    assert {row.task_id for row in batch(store) if row.blind} == set(ids(store, audit))
    served = project(store).batch_version
    jobs.publish(7)
    assert project(store).batch_version == served
    assert len(audits.every(store, 7)) == 1


def test_the_same_seed_draws_the_same_tasks(runtime: Runtime) -> None:
    store = runtime.store
    first = ids(store, drawn(store))
    run("--cancel")
    assert ids(store, drawn(store)) == first
    run("--cancel")
    told("--labels", str(AUDITS), "--seed", "6")
    audit = audits.newest(store, 7)
    assert audit is not None
    assert ids(store, audit) != first


def test_a_dry_run_says_what_to_expect_and_writes_nothing(runtime: Runtime) -> None:
    store, before = runtime.store, batch(runtime.store)
    found = told("--target", "0.6", "--labels", "30", "--dry-run")
    assert audits.every(store, 7) == []
    assert batch(store) == before
    assert [size["labels"] for size in found["outlook"]] == [30]
    size = found["outlook"][0]
    assert 0 <= size["low"] <= size["share"] <= size["high"] <= 1
    mean = np.mean([row.confidence for row in versions.predicted(store, 7, found["version"]).values()])
    assert found["expected_accuracy"] == pytest.approx(mean, abs=1e-6)
    assert found["allowing"] == pytest.approx(mean, abs=1e-6)  # few labels: nothing to allow for
    assert 10 <= found["for_accuracy"] <= N
    lines = run("--target", "0.6", "--labels", "30", "--dry-run").output
    assert "30 labels: about" in lines
    assert "Nothing was drawn" in lines


def test_what_any_rule_must_leave_to_people_is_said(runtime: Runtime) -> None:
    found = told("--target", "0.999", "--labels", "30", "--dry-run")
    wrong = 1 - found["expected_accuracy"]
    assert found["left_to_people"] == pytest.approx((wrong - 0.001) / 0.999)
    assert not found["hopeless"], "by chance all 30 of 60 may be right, and then some of the others are certified"
    found = told("--target", "0.95", "--labels", "3", "--dry-run")
    assert found["hopeless"].startswith("3 labels will certify nothing at 0.95: ")
    with pytest.raises(InputError, match="certify nothing"):
        run("--target", "0.95", "--labels", "3")


@pytest.mark.parametrize(("words", "why"), [
    (("--target", "1"), "--target 1 cannot be promised"),
    (("--target", "0"), "--target 0 cannot be promised"),
    (("--confidence", "1"), "--confidence 1 cannot be promised"),
    (("--labels", "61"), "61 audits need as many open tasks: there are 60"),
    (("--by-class",), "--target"),
])  # fmt: skip
def test_what_cannot_be_audited_is_refused(runtime: Runtime, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(InputError, match=why):
        run(*words)
    assert audits.every(runtime.store, 7) == []


def test_without_a_version_there_is_nothing_to_audit(runtime: Runtime) -> None:
    projects.change(runtime.store, 7, published_version=None)
    with pytest.raises(InputError, match="no published version"):
        run()


def test_an_open_audit_says_how_far_it_is_and_can_be_cancelled(runtime: Runtime) -> None:
    store = runtime.store
    mine = ids(store, drawn(store, "--target", "0.5"))
    answer(store, mine[:3])
    assert "3 of 20 answered" in run().output
    tasks.upsert(store, 7, [Task(mine[4], "h", "edited"), Task(99, "h", "new")])
    output = run().output
    assert "4 of 20 answered, 1 edited or deleted" in output
    assert "1 of its 60 tasks are edited or deleted since" in output
    with pytest.raises(InputError, match="audit-1 is open"):
        run("--target", "0.5")
    answer(store, mine[5:])
    answer(store, mine[3:4])
    assert "mollm accept 7" in run().output
    assert "audit-1 is cancelled" in run("--cancel").output
    with pytest.raises(InputError, match="nothing to cancel"):
        run("--cancel")
    assert len(audits.usable(store, 7)) == AUDITS - 1


def test_an_estimate_is_decided_once_all_is_answered_and_may_make_an_audit_needless(runtime: Runtime) -> None:
    store = runtime.store
    audit = drawn(store)
    rows = {row.task_id: row.predicted[""] for row in audits.tasks_of(store, 7, audit.id)}
    for task_id, label in list(rows.items())[1:]:
        answer(store, [task_id], label)
    assert due.publishing_reason(store, project(store)) == due.UNPUBLISHED
    jobs.publish(7)
    assert audits.newest(store, 7) == audit
    first = next(iter(rows))
    answer(store, [first], rows[first])
    assert due.publishing_reason(store, project(store)) == auditing.ENDED
    jobs.publish(7)
    ended = audits.newest(store, 7)
    assert ended is not None
    assert ended.status == audits.DECIDED
    report = json.loads(CliRunner().invoke(cli.app, ["report", "7", "--json"]).stdout)["projects"][0]["audit"]
    assert report["accuracy"]["value"] == 1
    assert report["accuracy"]["low"] > 0.8
    with pytest.raises(InputError, match="needs no other audit"):
        run("--target", "0.8", "--labels", "30")
    assert told("--target", "0.9", "--labels", "30", "--dry-run")


def test_changed_labels_withdraw_the_audit(runtime: Runtime) -> None:
    store = runtime.store
    audit = drawn(store)
    asked = (Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog", "cow"))),)
    projects.change(store, 7, decisions=[row.as_json() for row in asked])
    assert "the labels have changed since" in run().output
    assert due.publishing_reason(store, project(store)) == auditing.ENDED
    jobs.publish(7)
    ended = audits.find(store, 7, audit.id)
    assert ended is not None
    assert (ended.status, ended.note) == (audits.WITHDRAWN, "the labels have changed since it was drawn")
    assert audits.set_aside(store, 7) == set()


def test_by_class_each_predicted_class_has_a_part(runtime: Runtime) -> None:
    store = runtime.store
    found = told("--labels", "40", "--target", "0.55", "--by-class", "--seed", "3")
    audit = audits.newest(store, 7)
    assert audit is not None
    assert [part["label"] for part in found["parts"]] == ["cat", "dog"]
    rest, rows = audits.frozen_of(store, 7, audit.id), audits.tasks_of(store, 7, audit.id)
    for p, part in enumerate(audit.parts):
        begin = sum(row.tasks for row in audit.parts[:p])
        predicted = [rest.labels_at(n)[""] for n in range(begin, begin + part.tasks)]
        assert set(predicted) == {part.label}
        assert np.all(np.diff(rest.confidence[begin : begin + part.tasks]) <= 0)
        mine = [row for row in rows if row.part == p]
        assert len(mine) == part.labels
        assert all(rest.task_ids[begin + row.place] == row.task_id for row in mine)
        assert {row.predicted[""] for row in mine} == {part.label}
    assert len({row.part for row in rows[:20]}) == 2, "people see the classes mixed"


def test_a_standing_share_of_each_batch_is_drawn_at_random(runtime: Runtime) -> None:
    store = runtime.store
    done = CliRunner().invoke(cli.app, ["options", "7", "--audit-share", "0.2"])
    assert "drawn at random: 0.2" in done.output
    assert due.publishing_reason(store, project(store)) == auditing.STANDING_DUE
    jobs.publish(7)
    (audit,) = audits.every(store, 7)
    assert (audit.purpose, audit.version) == (audits.STANDING, project(store).published_version)
    mine = ids(store, audit)
    assert len(mine) == 5, "a fifth of the batch, whose other 20 the strategy chose"
    assert {row.probability for row in audits.tasks_of(store, 7, audit.id)} == {5 / N}
    assert [row.task_id for row in batch(store) if row.blind] == mine
    assert due.publishing_reason(store, project(store)) is None
    answer(store, mine)
    assert audits.usable(store, 7) == []
    said = CliRunner().invoke(cli.app, ["report", "7"]).output
    assert "5 of 5 answered" in said
    assert re.search(
        r"right on those tasks when they were drawn: [.\d]+ \[[.\d]+, [.\d]+\] \(n = 5\)", " ".join(said.split())
    )
    others = [row.task_id for row in batch(store) if not row.blind]
    answer(store, others)
    jobs.publish(7)
    assert len(audits.every(store, 7, status=audits.OPEN)) == 2, "a refill draws its share too"
    jobs.queues.request_training(runtime.connection, 7)
    jobs.train(7)
    jobs.publish(7)
    now = [row for row in audits.every(store, 7) if row.status == audits.OPEN]
    assert [row.version for row in now] == [project(store).published_version]
    assert {row.task_id for row in audits.usable(store, 7)} == {*mine, *others}
    assert {row.task_id for row in batch(store) if row.blind} == set(ids(store, now[0]))


def test_an_audit_beside_a_standing_share(runtime: Runtime) -> None:
    store = runtime.store
    projects.change(store, 7, options=project(store).options | {auditing.SHARE: 0.2})
    jobs.publish(7)
    audit = drawn(store)
    standing = audits.every(store, 7, purpose=audits.STANDING)[0]
    both = {*ids(store, audit), *ids(store, standing)}
    assert {row.task_id for row in batch(store) if row.blind} == both
    answer(store, ids(store, standing))
    audits.decide(store, 7, standing.id)
    assert audits.set_aside(store, 7) == set(ids(store, audit))
