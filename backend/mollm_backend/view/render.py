"""A stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mollm_backend.view import template


@dataclass(frozen=True, slots=True)
class Actions:
    """Stand-in."""

    csrf: str


def project_page(state: dict[str, Any], *, actions: Actions | None) -> str:
    """Stand-in."""
    return template.render("project.html", state=state, actions=actions)
