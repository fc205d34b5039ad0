"""Label Studio's Data Manager tabs, which its API calls views.

The page of a project does not open at all where a tab has an operator that it does not know (`in_list` of the API).
"""

from __future__ import annotations

from mollm_backend.labelstudio.transport import JSON, Transport


class ViewCalls(Transport):
    """The calls about Data Manager tabs. `data`: title, filters, ordering, hiddenColumns, columnsWidth and more."""

    def views(self, project_id: int) -> list[JSON]:
        """The project's Data Manager tabs."""
        return list(self._raw("list tabs", "GET", "api/dm/views/", params={"project": project_id}))

    def create_view(self, project_id: int, data: JSON) -> JSON:
        body = {"project": project_id, "data": data}
        return dict(self._raw("add the tab", "POST", "api/dm/views/", body=body))

    def patch_view(self, view_id: int, project_id: int, data: JSON) -> None:
        body = {"project": project_id, "data": data}
        self._raw("change the tab", "PATCH", f"api/dm/views/{view_id}/", params={"project": project_id}, body=body)

    def delete_view(self, view_id: int) -> None:
        self._gone("delete the tab", f"api/dm/views/{view_id}/")
