"""The pages' templates: every value is escaped, and only an http address becomes a link."""

from __future__ import annotations

import re
from functools import cache

import jinja2
from markupsafe import Markup, escape

from mollm_backend.view import assets

_HTTP = re.compile(r"https?://[^\s\x00-\x1f\x7f\\<>\"'`]+", re.IGNORECASE)


def safe_url(address: object) -> str:
    """The address where it is one of http or https, else "": `javascript:` and the like must never become a link."""
    text = str(address or "").strip()
    return text if _HTTP.fullmatch(text) else ""


def commands(line: object) -> Markup:
    """A line, escaped, in which what stands between backticks is set as code."""
    parts = str(line).split("`")
    if len(parts) % 2 == 0:  # a backtick without its other one
        return escape(line)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(parts)
    )


@cache
def environment() -> jinja2.Environment:
    """The environment of all pages. A name that a page lacks is an error, never an empty place."""
    loader = jinja2.PackageLoader("mollm_backend.view", "templates")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(safe_url=safe_url, commands=commands)
    made.globals.update(asset=assets.address, styles=assets.styles)
    return made


def prepare() -> None:
    """Compile all pages, some 60 ms of work, so that the first visitor does not wait for it."""
    for name in environment().list_templates():
        environment().get_template(name)


def render(name: str, **values: object) -> str:
    """A page as HTML."""
    return environment().get_template(name).render(values)
