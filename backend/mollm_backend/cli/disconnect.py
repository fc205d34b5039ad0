"""`mollm disconnect`: take this backend out of a Label Studio project."""

from __future__ import annotations

from mollm_backend.cli.terminal import Number, NumberOption, Url, console, one_number, opened
from mollm_backend.labelstudio import connect as connecting


def disconnect(number: Number = None, project: NumberOption = None, url: Url = "") -> None:
    """Take backend, webhook and our tabs away, put back what connect found; labels and predictions stay."""
    chosen = one_number(number, project)
    with opened(url) as (_settings, store, client):
        for line in connecting.disconnect(store, client, chosen):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(f"Project {chosen} is disconnected.", highlight=False)
