"""Our tabs of the Data Manager: made by `connect`, kept up to date by a job, taken away by `disconnect`.

Most of them never change: what they show follows from what Label Studio holds. So keeping them up to date costs a
request only where another column may be seen, or where other tasks wait for the panel. A tab of people is never
touched, and one of ours that somebody has renamed, filtered or ordered otherwise is theirs from then on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mollm.records import digest
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.tab_shapes import RESULTS, Tab, default, wanted
from mollm_backend.labelstudio.transport import JSON
from mollm_backend.store import Store, projects

FORMER = "mollm: next batch"  # made by earlier releases, where the stream did not serve the batch in its order
THEIRS = 0  # noted as the id of a tab that has our title but that we have not made


def keep(store: Store, client: LabelStudioClient, project_id: int, *, make: bool = False) -> list[str]:
    """Bring our tabs to what they should be; returns lines for people. Without a change it makes no request.

    `make`: make those that are missing, as `connect` does. Else a tab that somebody has deleted stays away, and a
    project that was connected by a release without tabs gets none. It can be called again, also after a kill. Raises
    LabelStudioError.
    """
    project = projects.get(store, project_id)
    if "tabs" not in project.connection and not make:
        return []
    known, tabs = dict(project.connection.get("tabs", {})), wanted(store, project)
    marks = {title: _mark(tab.data) for title, tab in tabs.items()}
    if not make and {title: entry["as"] for title, entry in known.items()} == marks:
        return []
    views = {int(view["id"]): view for view in client.views(project_id)}
    if make and not views:  # the page makes its own first tab only while there is none
        client.create_view(project_id, default().data)
    keeper = _Keeper(store, client, project_id, views, make)
    lines = [line for title in [*known] if title not in tabs for line in keeper.drop(title)]
    lines += [line for tab in tabs.values() for line in keeper.put(tab)]
    if make:
        keeper.retire()
    return lines


def remove(store: Store, client: LabelStudioClient, project_id: int) -> list[str]:
    """Delete our tabs, but none that a person has changed; returns a line for each. Raises LabelStudioError."""
    known = projects.get(store, project_id).connection.get("tabs", {})
    if not known:
        return []
    views = {int(view["id"]): view for view in client.views(project_id)}
    keeper = _Keeper(store, client, project_id, views, make=False)
    return [line for title in [*known] for line in keeper.drop(title)]


@dataclass
class _Keeper:
    """One pass over a project's tabs; `views` by their ids, as Label Studio listed them."""

    store: Store
    client: LabelStudioClient
    project_id: int
    views: Mapping[int, JSON]
    make: bool

    @property
    def known(self) -> dict[str, Any]:
        """What was noted of each tab: its `id` (None: being made), what was written or may have been (`set`), and what
        was wanted last (`as`)."""
        return dict(projects.get(self.store, self.project_id).connection.get("tabs", {}))

    def note(self, title: str, **entry: Any) -> None:
        """Note what is known of a tab; nothing: it is not ours."""
        connection = projects.get(self.store, self.project_id).connection
        tabs = {name: row for name, row in connection.get("tabs", {}).items() if name != title}
        tabs |= {title: entry} if entry else {}
        projects.change(self.store, self.project_id, connection=connection | {"tabs": tabs})

    def put(self, tab: Tab) -> list[str]:
        """Make the tab or change it, if it is ours."""
        entry, mark = self.known.get(tab.title), _mark(tab.data)
        if entry is not None and entry["id"] is None:  # killed between the note and what Label Studio answered
            entry = self._found(entry["set"])
        if entry is None or (self.make and entry["id"] not in self.views):
            return self._made(tab)
        view = self.views.get(entry["id"])
        if view is None or _written(view["data"]) not in entry["set"]:
            self.note(tab.title, **(entry | {"as": mark}))
            return [] if view is None else [f"the tab {_name(view)} was changed by somebody: it stays so"]
        if entry["as"] != mark:
            new = _written(tab.data)
            self.note(tab.title, **(entry | {"set": [*entry["set"], new]}))
            self.client.patch_view(entry["id"], self.project_id, _changed(view["data"], tab))
            self.note(tab.title, **{"id": entry["id"], "set": [new], "as": mark})
        return []

    def _found(self, written: Sequence[str]) -> dict[str, Any] | None:
        """The tab that a killed call had made."""
        same = (number for number, view in self.views.items() if _written(view["data"]) in written)
        number = next(same, None)
        return None if number is None else {"id": number, "set": list(written), "as": ""}

    def _made(self, tab: Tab) -> list[str]:
        if any(view["data"].get("title") == tab.title for view in self.views.values()):
            self.note(tab.title, id=THEIRS, set=[], **{"as": _mark(tab.data)})
            return [f'there is a tab "{tab.title}" that we have not made: it stays, and ours is not added']
        values = {"set": [_written(tab.data)], "as": _mark(tab.data)}
        self.note(tab.title, id=None, **values)
        self.note(tab.title, id=int(self.client.create_view(self.project_id, tab.data)["id"]), **values)
        return [f'added the tab "{tab.title}"'] if self.make else []

    def drop(self, title: str) -> list[str]:
        """Delete the tab and forget it; one that was renamed or changed is only forgotten."""
        entry = self.known[title]
        if entry["id"] is None:
            entry = self._found(entry["set"]) or entry
        view = self.views.get(entry["id"] or 0)
        ours = view is not None and _written(view["data"]) in entry["set"]
        if ours:
            self.client.delete_view(entry["id"])
        self.note(title)
        if view is None:
            return []
        return [f'removed the tab "{title}"' if ours else f"the tab {_name(view)} was changed by somebody: it stays"]

    def retire(self) -> None:
        """Delete the tab that releases before these tabs made, as they made it."""
        for number, view in self.views.items():
            columns = [item["filter"] for item in (view["data"].get("filters") or {}).get("items", [])]
            theirs = ["filter:tasks:predictions_model_versions", "filter:tasks:completed_at"]
            if view["data"].get("title") == FORMER and columns == theirs:
                self.client.delete_view(number)


def _name(view: JSON) -> str:
    """A tab's title as it is now, in quotes."""
    return json.dumps(view["data"].get("title"), ensure_ascii=False)


def _written(data: JSON) -> str:
    """What tells whether somebody has changed a tab: title, filters and order, as Label Studio gives them back."""
    filters = data.get("filters") or {}
    items = [[item.get(name) for name in ("filter", "operator", "value")] for item in filters.get("items", [])]
    said = [data.get("title"), filters.get("conjunction", "and"), items, list(data.get("ordering") or [])]
    return digest(json.dumps(said, sort_keys=True))


def _mark(data: JSON) -> str:
    """What tells whether a tab should be changed: also which columns it hides."""
    return digest(_written(data), json.dumps(data["hiddenColumns"]["explore"]))


def _changed(data: JSON, tab: Tab) -> JSON:
    """A tab's data with our filters, and the predictions' column hidden or not; other columns stay as they are."""
    hidden = data.get("hiddenColumns") or tab.hidden
    explore = [name for name in hidden["explore"] if name != RESULTS]
    explore += [RESULTS] if RESULTS in tab.hidden["explore"] else []
    return {**data, "filters": tab.filters, "ordering": list(tab.ordering),
            "hiddenColumns": hidden | {"explore": explore}}  # fmt: skip
