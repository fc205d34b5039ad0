"""Projects in the store: what is connected, with which labels, which panel and which published version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from mollm.errors import InputError
from mollm.records import LabelSet
from mollm.store import Store
from mollm.store.schema import projects


@dataclass(frozen=True, slots=True)
class LabelTask:
    """One decision of a label config: the control, the object it is on, the task field it reads, the labels.

    `kind` is the object's tag; in a dialogue (Paragraphs) `text_key` and `name_key` name what is said and by whom.
    """

    control: str
    object: str
    field: str
    labels: LabelSet
    kind: str = "Text"
    text_key: str = "text"
    name_key: str = "author"

    def as_json(self) -> dict[str, Any]:
        return {
            "control": self.control, "object": self.object, "field": self.field,
            "kind": self.kind, "text_key": self.text_key, "name_key": self.name_key,
            "labels": {
                "names": list(self.labels.names), "shown": list(self.labels.shown),
                "descriptions": list(self.labels.descriptions),
            },
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LabelTask:
        labels = LabelSet(*(tuple(data["labels"][key]) for key in ("names", "shown", "descriptions")))
        reading = {key: data[key] for key in ("kind", "text_key", "name_key") if key in data}
        return cls(data["control"], data["object"], data["field"], labels, **reading)


@dataclass(frozen=True, slots=True)
class PanelMember:
    """An annotator of a project's panel; the fingerprint addresses its answers in the signal cache."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Project:
    """One connected Label Studio project. `options`: refit_every, batch_size, shots (task ids used as shots), ..."""

    id: int
    url: str
    title: str
    ls_created_at: str
    label_config: str
    label_task: LabelTask
    panel: tuple[PanelMember, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    connection: dict[str, Any] = field(default_factory=dict)
    connected: bool = True
    published_version: str | None = None
    batch_version: str | None = None
    reconciled_at: str = ""
    attention: str = ""


def _project(row: sa.Row[Any]) -> Project:
    values = dict(row._mapping)
    values["label_task"] = LabelTask.from_json(values["label_task"])
    values["panel"] = tuple(PanelMember(**member) for member in values["panel"])
    return Project(**values)


def save(store: Store, project: Project) -> None:
    """Insert the project, or replace what the store says of it."""
    values = {name: getattr(project, name) for name in Project.__dataclass_fields__}
    values["label_task"] = project.label_task.as_json()
    values["panel"] = [{"name": member.name, "fingerprint": member.fingerprint} for member in project.panel]
    with store.write() as connection:
        connection.execute(projects.delete().where(projects.c.id == project.id))
        connection.execute(projects.insert().values(**values))


def change(store: Store, project_id: int, **values: Any) -> None:
    """Set single plain columns (published_version, attention, ...)."""
    with store.write() as connection:
        connection.execute(projects.update().where(projects.c.id == project_id).values(**values))


def set_panel(store: Store, project_id: int, members: tuple[PanelMember, ...]) -> None:
    """Store the panel: from now on only answers under these fingerprints count."""
    change(store, project_id, panel=[{"name": member.name, "fingerprint": member.fingerprint} for member in members])


def find(store: Store, project_id: int) -> Project | None:
    with store.read() as connection:
        row = connection.execute(sa.select(projects).where(projects.c.id == project_id)).first()
    return None if row is None else _project(row)


def require(store: Store, project_id: int) -> None:
    """Raises InputError where the project was never connected; reads nothing but its number."""
    with store.read() as connection:
        known = connection.execute(sa.select(projects.c.id).where(projects.c.id == project_id)).first()
    if known is None:
        raise InputError(f"Project {project_id} is not connected: run `mollm connect --project {project_id}`.")


def get(store: Store, project_id: int) -> Project:
    """The project. Raises InputError where it was never connected."""
    require(store, project_id)
    project = find(store, project_id)
    assert project is not None
    return project


def every(store: Store) -> list[Project]:
    with store.read() as connection:
        return [_project(row) for row in connection.execute(sa.select(projects).order_by(projects.c.id))]
