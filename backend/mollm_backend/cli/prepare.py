"""`mollm prepare`: fetch and install what `mollm up --demo` needs, and start nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from mollm_backend import settings
from mollm_backend.cli.up import tell
from mollm_backend.demo.setup import Setup
from mollm_backend.supervisor.lock import HomeInUse, home_lock
from mollm_backend.supervisor.processes import Family, Stopped


def prepare(
    models_only: Annotated[
        bool, typer.Option("--models-only", help="No Label Studio, only the panel's models.")
    ] = False,
    panel: Annotated[str, typer.Option(help="Of this panel; default: the one in use.")] = "",
) -> None:
    """Install Label Studio in its own environment and fetch the models, where they are not there yet.

    Waits for a `mollm up` or another `mollm prepare` that is at it in the same home.
    """
    loaded = settings.load()
    loaded = loaded.model_copy(update={"panel": panel or loaded.panel})
    home = loaded.home
    for _attempt in _until_free():
        family = Family(home, tell)
        setup = Setup.for_panel(loaded, family, tell) if models_only else Setup.for_demo(loaded, family, tell)
        if setup.is_done():
            tell("the models are there" if models_only else "Label Studio and the models are there")
            return
        try:
            with home_lock(home), family.until_stopped():
                family.end_orphans()
                setup.complete()
            if missing := setup.missing():
                tell(f"missing still: {', '.join(missing)}")
                raise SystemExit(1)
        except HomeInUse as busy:
            tell(f"waiting: {busy}")
        except Stopped:
            tell("all ended")
            raise SystemExit(1) from None


def _until_free() -> Iterator[None]:
    while True:
        yield
        time.sleep(2.0)
