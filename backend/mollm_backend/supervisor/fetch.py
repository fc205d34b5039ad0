"""`python -m mollm_backend.supervisor.fetch NAME DIRECTORY`: download one model, in a process that can be ended.

A model of a hub that cannot be fetched ends it without an error: the other members of the panel go on without it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mollm.errors import MollmError
from mollm_backend import packages
from mollm_backend.hub import HubModel


def main(name: str, models: str) -> None:
    try:
        packages.ensure_model(name, Path(models), lambda line: print(line, flush=True))  # noqa: T201
    except MollmError as error:
        if HubModel.of(name) is None:
            sys.exit(str(error))
        print(f"{error} The others go on without it.", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
