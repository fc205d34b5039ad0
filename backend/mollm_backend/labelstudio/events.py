"""Parse and check what Label Studio sends to us. A body that does not fit raises InputError, and no other error.

The web process imports this, so nothing here loads the SDK. An event only says that something may have changed:
reconciliation then reads the real state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mollm.errors import InputError
from mollm_backend.labelstudio.label_config import MAX_CONFIG

MAX_TASKS = 10_000  # in one request; Label Studio sends all selected tasks in one (87 were seen), so this is a guess
_MAX_ID = 2**53  # JavaScript holds whole numbers exactly only below this
TRAIN = "START_TRAINING"  # the Train button's action
# Each action, with the key of its annotations and the key of its tasks in the body; "" if it has none.
ACTIONS: dict[str, tuple[str, str]] = {
    "ANNOTATION_CREATED": ("annotation", "task"),
    "ANNOTATION_UPDATED": ("annotation", "task"),
    "ANNOTATIONS_CREATED": ("annotation", "task"),
    "ANNOTATIONS_DELETED": ("annotations", ""),
    "TASKS_CREATED": ("", "tasks"),
    "TASKS_DELETED": ("", "tasks"),
    "PROJECT_UPDATED": ("", ""),
    TRAIN: ("", ""),
}
# Our own webhook sends this header, because annotation events come without basic auth.
SECRET_HEADER = "X-Mollm-Secret"  # noqa: S105
# The events that our own webhook asks for; Label Studio sends START_TRAINING to the ML backend.
WEBHOOK_ACTIONS = tuple(name for name in ACTIONS if name != TRAIN)


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One webhook body. `known` is False for an action that means nothing to us (`project_id` is then 0)."""

    action: str
    project_id: int
    task_ids: tuple[int, ...] = ()
    annotation_ids: tuple[int, ...] = ()
    start_training: bool = False
    known: bool = True

    @property
    def line(self) -> str:
        """One line for the log."""
        if not self.known:
            return f"ignored the event {self.action!r}"
        counts = f"{len(self.task_ids)} tasks, {len(self.annotation_ids)} annotations"
        return f"{self.action} in project {self.project_id} ({counts})"


@dataclass(frozen=True, slots=True)
class AskedTask:
    """A task of a /predict body; a task that cannot be read has the id 0 and no data."""

    task_id: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A /predict body: its tasks in the order of the request. The project is None where the body names none."""

    project_id: int | None
    tasks: tuple[AskedTask, ...]
    label_config: str = ""


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """A /setup body. Its access token is never read: Label Studio also sends disabled ones."""

    project_id: int
    label_config: str
    extra_params: object = None


def parse(body: object) -> WebhookEvent:
    """A webhook body as an event. Raises InputError for a body that is not one, or a known action without project."""
    content = _object(body, "the event")
    action = content.get("action")
    if not isinstance(action, str) or not action or len(action) > 64:
        raise InputError("The event names no action: Label Studio sends `action` and `project`.")
    if action not in ACTIONS:
        return WebhookEvent(action, 0, known=False)
    annotations, tasks = ACTIONS[action]
    return WebhookEvent(
        action,
        _project_id(content.get("project")),
        _ids(content, tasks),
        _ids(content, annotations),
        start_training=action == TRAIN,
    )


def parse_predict(body: object) -> PredictRequest:
    """A /predict body. Raises InputError, but not for a single bad task (see AskedTask)."""
    content = _object(body, "the request")
    tasks = content.get("tasks")
    if not isinstance(tasks, list):
        raise InputError("The request has no list `tasks`.")
    if len(tasks) > MAX_TASKS:
        raise InputError(f"The request holds {len(tasks):,} tasks; at most {MAX_TASKS:,}: select fewer at once.")
    named = content.get("project")
    return PredictRequest(
        None if named is None else _project_id(named),
        tuple(_task(task) for task in tasks),
        _config(content, "label_config"),
    )


def parse_setup(body: object) -> SetupRequest:
    """A /setup body. `extra_params` may be anything: JSON text is read, other text stays text. Raises InputError."""
    content = _object(body, "the request")
    return SetupRequest(
        _project_id(content.get("project")), _config(content, "schema"), _extra(content.get("extra_params"))
    )


def _extra(given: object) -> object:
    if not isinstance(given, str) or len(given) > MAX_CONFIG:
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        return given


def _object(body: object, what: str) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise InputError(f"The body is not a JSON object: {what} cannot be read.")
    return body


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_ID


def _project_id(value: object) -> int:
    """The id of a project that is named by its id, by "<id>.<created>", or by an object with `id`."""
    if isinstance(value, Mapping):
        value = value.get("id")
    if isinstance(value, str):
        head = value[:40].partition(".")[0]
        value = int(head) if head.isascii() and head.isdigit() and len(head) < 17 else None
    if not _is_id(value):
        raise InputError("The body names no project.")
    assert isinstance(value, int)
    return value


def _ids(content: Mapping[str, Any], key: str) -> tuple[int, ...]:
    if not key:
        return ()
    value = content.get(key)
    entries = value if isinstance(value, list) else [value]
    if len(entries) > MAX_TASKS:
        return ()  # the event stays valid without ids: reconciliation looks at all tasks anyway
    return tuple(entry["id"] for entry in entries if isinstance(entry, Mapping) and _is_id(entry.get("id")))


def _task(task: object) -> AskedTask:
    if not isinstance(task, Mapping) or not _is_id(task.get("id")) or not isinstance(task.get("data"), dict):
        return AskedTask(0, {})
    return AskedTask(task["id"], task["data"])


def _config(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_CONFIG:
        raise InputError(f"`{key}` must be a label config of at most {MAX_CONFIG:,} characters.")
    return value
