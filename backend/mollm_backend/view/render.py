"""The page of one project, and the same as one file to mail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mollm_backend.view import assets, charts, template
from mollm_backend.view.quality import figure, percent
from mollm_backend.view.summary import advice, in_hours


@dataclass(frozen=True, slots=True)
class Actions:
    """What a page needs to offer buttons. `csrf`: the token that each form sends back."""

    csrf: str


def project_page(state: Mapping[str, Any], *, actions: Actions | None) -> str:
    """The page of a project from `mollm_backend.view.project.state`; without `actions` it has no button."""
    return template.render("project.html", state=state, actions=actions, **_words())


def report(state: Mapping[str, Any]) -> str:
    """The same page as one self-contained file: its styles are in it, it runs no script and loads nothing."""
    style = "\n".join(asset.content.decode() for name, asset in assets.every().items() if name.endswith(".css"))
    return template.render("report.html", state=state, actions=None, style=style, **_words())


def unbroken(found: Mapping[str, Any]) -> str:
    """`figure` for a narrow cell: a line may end before its n, and nowhere else."""
    value, bracket, n = figure(found).partition("], ")
    return f"{value}{bracket}{n}" if not bracket else value.replace(" ", "\xa0") + bracket + n.replace(" ", "\xa0")


def _words() -> dict[str, Any]:
    """What the templates call beside the state."""
    return {
        "charts": charts,
        "figure": figure,
        "unbroken": unbroken,
        "percent": percent,
        "in_hours": in_hours,
        "advice": advice,
    }
