"""Every body that Label Studio was recorded to send, and bodies that it never should."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollm.errors import InputError
from mollm_backend.labelstudio import events

PAYLOADS = Path(__file__).parent.parent / "payloads"


def body(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))["body"]


@pytest.mark.parametrize(
    ("name", "action", "project", "tasks", "annotations"),
    [
        ("webhook_ANNOTATION_CREATED", "ANNOTATION_CREATED", 3, 1, 1),
        ("webhook_ANNOTATION_CREATED_skipped", "ANNOTATION_CREATED", 3, 1, 1),
        ("webhook_custom_headers_ANNOTATION_CREATED", "ANNOTATION_CREATED", 7, 1, 1),
        ("webhook_ANNOTATION_UPDATED", "ANNOTATION_UPDATED", 3, 1, 1),
        ("webhook_ANNOTATIONS_CREATED", "ANNOTATIONS_CREATED", 3, None, None),
        ("webhook_ANNOTATIONS_DELETED", "ANNOTATIONS_DELETED", 3, 0, 1),
        ("webhook_ANNOTATIONS_DELETED_action", "ANNOTATIONS_DELETED", 3, 0, None),
        ("webhook_TASKS_CREATED_import3", "TASKS_CREATED", 3, 3, 0),
        ("webhook_TASKS_CREATED_import_annotated", "TASKS_CREATED", 3, 1, 0),
        ("webhook_TASKS_CREATED_single", "TASKS_CREATED", 3, 1, 0),
        ("webhook_TASKS_DELETED", "TASKS_DELETED", 3, 1, 0),
        ("webhook_TASKS_DELETED_action", "TASKS_DELETED", 3, 2, 0),
        ("webhook_PROJECT_UPDATED", "PROJECT_UPDATED", None, 0, 0),
        ("webhook_START_TRAINING", "START_TRAINING", 3, 0, 0),
    ],
)
def test_each_recorded_event(
    name: str, action: str, project: int | None, tasks: int | None, annotations: int | None
) -> None:
    event = events.parse(body(name))
    assert event.known
    assert event.action == action
    assert event.start_training == (action == "START_TRAINING")
    assert event.project_id > 0
    assert project in (None, event.project_id)
    assert len(event.task_ids) == tasks if tasks is not None else event.task_ids is not None
    assert len(event.annotation_ids) == annotations if annotations is not None else event.annotation_ids


def test_all_webhook_recordings_are_covered() -> None:
    for path in PAYLOADS.glob("webhook_*.json"):
        assert events.parse(body(path.stem)).known, path.name


@pytest.mark.parametrize("path", sorted(PAYLOADS.glob("predict_*.json")), ids=lambda path: path.stem)
def test_each_recorded_predict_body_keeps_its_tasks_in_order(path: Path) -> None:
    content = body(path.stem)
    asked = events.parse_predict(content)
    assert asked.project_id == int(content["project"].split(".")[0])
    assert [task.task_id for task in asked.tasks] == [task["id"] for task in content["tasks"]]
    assert [task.data for task in asked.tasks] == [task["data"] for task in content["tasks"]]
    assert "<Choices" in asked.label_config


def test_recorded_setup_bodies() -> None:
    assert events.parse_setup(body("connect_setup")).project_id == 3
    asked = events.parse_setup(body("connect_setup_basic_auth_extra_params"))
    assert asked.extra_params == {"mixture": ["a", "b"], "k": 3}
    assert events.parse_setup({"project": "3.1", "extra_params": '{"k": 3}'}).extra_params == {"k": 3}


def test_an_unknown_action_is_ignored_with_a_line() -> None:
    event = events.parse({"action": "LABEL_LINK_CREATED", "label_link": []})
    assert not event.known
    assert "LABEL_LINK_CREATED" in event.line


def test_one_bad_task_does_not_spoil_the_others() -> None:
    asked = events.parse_predict({"project": 3, "tasks": [{"id": 1, "data": {"text": "a"}}, None, {"id": "x"}]})
    assert [task.task_id for task in asked.tasks] == [1, 0, 0]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        "x",
        {},
        {"action": 3},
        {"action": "TASKS_CREATED"},
        {"action": "START_TRAINING", "project": {"id": -1}},
    ],
)
def test_bodies_that_are_no_events(bad: object) -> None:
    with pytest.raises(InputError):
        events.parse(bad)


def test_hard_limits() -> None:
    with pytest.raises(InputError, match="at most"):
        events.parse_predict({"project": 3, "tasks": [{}] * (events.MAX_TASKS + 1)})
    with pytest.raises(InputError, match="label config"):
        events.parse_setup({"project": 3, "schema": "x" * 1_000_001})
    with pytest.raises(InputError):
        events.parse_predict({"project": "9" * 5000, "tasks": []})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=8,
)
KEYS = ("action", "project", "task", "tasks", "annotation", "annotations", "extra_params", "schema", "label_config")
BODIES = st.dictionaries(st.sampled_from(KEYS), JSON | st.sampled_from([*events.ACTIONS, "3.17"]), max_size=5) | JSON


@settings(deadline=None)
@given(BODIES)
def test_whatever_comes_is_parsed_or_refused(content: Any) -> None:
    for parse in (events.parse, events.parse_predict, events.parse_setup):
        with suppress(InputError):
            parse(content)
