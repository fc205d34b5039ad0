"""`mollm migrate`: bring the store to this release before anything else starts."""

from __future__ import annotations

import json
from contextlib import closing

from mollm_backend import settings
from mollm_backend.cli.terminal import AsJson, say
from mollm_backend.store import Store


def migrate(as_json: AsJson = False) -> None:
    """Bring the store to the tables of this release, and say from which revision to which.

    Every other command does so too at its start; several hosts that start at once wait for the first of them.
    """
    with closing(Store(settings.load().store_url, migrate=False)) as store:
        before, after = store.migrate()
        where = store.url.render_as_string()
    if as_json:
        say(json.dumps({"store": where, "from": before, "to": after}))
    elif before == after:
        say(f"{where} is at {after}: nothing to do")
    else:
        say(f"{where}: from {before or 'empty'} to {after}")
