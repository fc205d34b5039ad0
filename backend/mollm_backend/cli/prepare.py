"""`mollm prepare`: fetch and install what `mollm up --demo` needs, and start nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

from mollm_backend import settings
from mollm_backend.cli.up import tell
from mollm_backend.demo.setup import Setup
from mollm_backend.supervisor.lock import HomeInUse, home_lock
from mollm_backend.supervisor.processes import Family, Stopped


def prepare() -> None:
    """Install Label Studio in its own environment and fetch the models, where they are not there yet.

    Waits for a `mollm up` or another `mollm prepare` that is at it in the same home.
    """
    home = settings.load().home
    for _attempt in _until_free():
        family = Family(home, tell)
        setup = Setup(home, family, tell)
        if setup.is_done():
            tell("Label Studio and the models are there")
            return
        try:
            with home_lock(home), family.until_stopped():
                family.end_orphans()
                setup.complete()
        except HomeInUse as busy:
            tell(f"waiting: {busy}")
        except Stopped:
            tell("all ended")
            raise SystemExit(1) from None


def _until_free() -> Iterator[None]:
    while True:
        yield
        time.sleep(2.0)
