"""`python -m mollm_backend.supervisor.fetch NAME DIRECTORY [needed]`: download a model, in a process that can be ended.

A model that cannot be fetched is one line, and no error unless it is `needed`: the other members of the panel go on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mollm.errors import MollmError
from mollm_backend import packages


def main(name: str, models: str, needed: str = "") -> None:
    try:
        packages.ensure_model(name, Path(models), lambda line: print(line, flush=True))  # noqa: T201
    except MollmError as error:
        if needed:
            sys.exit(str(error))
        print(f"{error} The others go on without it.", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
