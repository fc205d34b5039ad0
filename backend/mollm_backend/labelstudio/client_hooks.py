"""Label Studio's webhooks and ML backends."""

from __future__ import annotations

from typing import Any

from mollm_backend.labelstudio.transport import JSON, Transport


class HookCalls(Transport):
    """The calls about what Label Studio calls: webhooks and ML backends."""

    def webhooks(self, project_id: int | None = None) -> list[JSON]:
        """All webhooks, or those of one project."""
        found = self._raw("list webhooks", "GET", "api/webhooks/")
        return [hook for hook in found if project_id is None or hook.get("project") == project_id]

    def create_webhook(self, **values: Any) -> JSON:
        return dict(self._raw("create the webhook", "POST", "api/webhooks/", body=values))

    def patch_webhook(self, webhook_id: int, **values: Any) -> None:
        """Change a webhook. Always give `actions`: Label Studio empties the list if they are left out."""
        self._raw("patch the webhook", "PATCH", f"api/webhooks/{webhook_id}/", body=values)

    def delete_webhook(self, webhook_id: int) -> None:
        self._gone("delete the webhook", f"api/webhooks/{webhook_id}/")

    def ml_backends(self, project_id: int) -> list[JSON]:
        """The project's ML backends. For this call, Label Studio requests /health and /setup of each of them."""
        return list(self._raw("list ML backends", "GET", "api/ml/", params={"project": project_id}))

    def create_ml_backend(self, **values: Any) -> JSON:
        return dict(self._raw("add the ML backend", "POST", "api/ml/", body=values))

    def patch_ml_backend(self, backend_id: int, **values: Any) -> None:
        self._raw("patch the ML backend", "PATCH", f"api/ml/{backend_id}", body=values)

    def delete_ml_backend(self, backend_id: int) -> None:
        self._gone("delete the ML backend", f"api/ml/{backend_id}")
