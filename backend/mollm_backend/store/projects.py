"""Projects in the store: what is connected, with which decisions, which panel and which published version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from mollm.errors import ConfigError, InputError
from mollm_backend.store import Store, revisions
from mollm_backend.store.decisions import Decision
from mollm_backend.store.schema import human_annotations, predictions, projects


@dataclass(frozen=True, slots=True)
class PanelMember:
    """An annotator of a decision's panel; the fingerprint addresses its answers in the signal cache."""

    name: str
    fingerprint: str
    decision: str = ""


@dataclass(frozen=True)
class Project:
    """One connected Label Studio project. `panel` holds the annotators of all decisions, one after the other.

    `options`: refit_every, batch_size, blind_share, shots (rows of text, label and the decision's key), ...
    `trust`: what a job last said of audits, certificates and the plan (`lines`, for people).
    `pinned_at`: since when the published version is pinned; "" where it is not.
    """

    id: int
    url: str
    title: str
    ls_created_at: str
    label_config: str
    decisions: tuple[Decision, ...]
    panel: tuple[PanelMember, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    connection: dict[str, Any] = field(default_factory=dict)
    connected: bool = True
    published_version: str | None = None
    batch_version: str | None = None
    reconciled_at: str = ""
    attention: str = ""
    trust: dict[str, Any] = field(default_factory=dict)
    pinned_at: str = ""
    pinned_until_next: bool = False

    @property
    def pin(self) -> str:
        """To what the project is pinned, since when, and how to unpin it, in words; "" where it is not pinned."""
        if not self.pinned_at:
            return ""
        until = "until the next version that passes the gate" if self.pinned_until_next else "until you unpin it"
        since = self.pinned_at[:16].replace("T", " ")
        return f"pinned to {self.published_version} since {since} UTC, {until}: `mollm unpin {self.id}`"

    @property
    def decision(self) -> Decision:
        """The only decision. Raises InputError in a project that asks for several."""
        if len(self.decisions) == 1:
            return self.decisions[0]
        names = ", ".join(decision.name for decision in self.decisions)
        raise InputError(f"Project {self.id} asks for several decisions ({names}); this works on one alone.")

    def instruction(self, default: str) -> str:
        """What the LLMs are told to do in this project: its own words, else the panel's (`default`)."""
        return str(self.options.get("instruction") or default)

    @property
    def fingerprints(self) -> list[str]:
        """What tells this panel from another: which annotators, asked what, in which order."""
        return [member.fingerprint for member in self.panel]

    def decision_of(self, member: PanelMember) -> Decision:
        """What a member of the panel is asked. Raises ConfigError where that is not asked any more."""
        for decision in self.decisions:
            if decision.key == member.decision:
                return decision
        raise ConfigError(f"{member.name} was to decide {member.decision!r}, which the label config asks no more.")

    def prefix_of(self, decision: Decision) -> str:
        """How the names of a decision's model files begin: by its number; empty where it is the only one."""
        keys = [each.key for each in self.decisions]
        return f"{keys.index(decision.key)}." if len(keys) > 1 else ""

    @property
    def asked(self) -> tuple[PanelMember, ...]:
        """The panel, one member for each annotator's question: the decisions of one list share the answers to it."""
        first: dict[tuple[str, str], PanelMember] = {}
        for member in self.panel:
            first.setdefault((member.name, member.fingerprint), member)
        return tuple(first.values())

    @property
    def questions(self) -> int:
        """How many questions each annotator is asked about a text, at least 1."""
        return max(1, len(self.asked) // max(1, len({member.name for member in self.asked})))

    def panel_of(self, decision: Decision) -> tuple[PanelMember, ...]:
        """A decision's annotators, in the order of its M axis."""
        return tuple(member for member in self.panel if member.decision == decision.key)


def _project(row: sa.Row[Any]) -> Project:
    values = dict(row._mapping)
    values["decisions"] = tuple(Decision.from_json(decision) for decision in values["decisions"])
    values["panel"] = tuple(PanelMember(**member) for member in values["panel"])
    return Project(**values)


def save(store: Store, project: Project) -> None:
    """Insert the project, or replace what the store says of it."""
    values = {name: getattr(project, name) for name in Project.__dataclass_fields__}
    values["decisions"] = [decision.as_json() for decision in project.decisions]
    values["panel"] = [asdict(member) for member in project.panel]
    with store.write() as connection:
        connection.execute(projects.delete().where(projects.c.id == project.id))
        connection.execute(projects.insert().values(**values))


def change(store: Store, project_id: int, **values: Any) -> None:
    """Set single plain columns (published_version, attention, ...)."""
    with store.write() as connection:
        connection.execute(projects.update().where(projects.c.id == project_id).values(**values))


def set_batch(store: Store, project_id: int, version: str, batch_version: str) -> None:
    """Make a batch of the published version current; nothing where another version was published meanwhile."""
    here = (projects.c.id == project_id, projects.c.published_version == version)
    with store.write() as connection:
        connection.execute(projects.update().where(*here).values(batch_version=batch_version))


def set_panel(store: Store, project_id: int, members: tuple[PanelMember, ...]) -> None:
    """Store the panel: from now on only answers under these fingerprints count."""
    change(store, project_id, panel=[asdict(member) for member in members])


def rename_decisions(store: Store, project_id: int, moved: Mapping[str, str]) -> None:
    """Give what is stored under a decision's old key (labels, predictions, few-shot examples) its new key."""
    if not moved:
        return
    with store.write() as connection:
        this = projects.c.id == project_id
        options = connection.execute(sa.select(projects.c.options).where(this)).scalar_one()
        if shots := options.get("shots"):
            keyed = [(text, label, key[0] if key else "") for text, label, *key in shots]
            renamed = [[text, label, moved.get(key, key)] for text, label, key in keyed]
            connection.execute(projects.update().where(this).values(options=options | {"shots": renamed}))
        for table, rest in ((human_annotations, ("annotation_id",)), (predictions, ("version", "task_id"))):
            other = table.alias()
            same = [table.c[name] == other.c[name] for name in ("project_id", *rest)]
            for old, new in moved.items():
                taken = sa.exists().where(*same, other.c.decision == new)
                here = (table.c.project_id == project_id, table.c.decision == old, ~taken)
                connection.execute(table.update().where(*here).values(decision=new))
        revisions.note(connection, revisions.of_labels(project_id), revisions.of_work(project_id))


def find(store: Store, project_id: int) -> Project | None:
    """The project, connected now or before; None where it never was."""
    with store.read() as connection:
        row = connection.execute(sa.select(projects).where(projects.c.id == project_id)).first()
    return None if row is None else _project(row)


def require(store: Store, project_id: int) -> None:
    """Raises InputError where the project was never connected; reads nothing but its number."""
    with store.read() as connection:
        known = connection.execute(sa.select(projects.c.id).where(projects.c.id == project_id)).first()
    if known is None:
        raise InputError(f"Project {project_id} is not connected: run `mollm connect {project_id}`.")


def get(store: Store, project_id: int) -> Project:
    """The project. Raises InputError where it was never connected."""
    require(store, project_id)
    project = find(store, project_id)
    assert project is not None
    return project


def every(store: Store) -> list[Project]:
    """All projects that were ever connected, by id."""
    with store.read() as connection:
        return [_project(row) for row in connection.execute(sa.select(projects).order_by(projects.c.id))]
