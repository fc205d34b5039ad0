"""One holder at a time, also in another process, whose death frees the lock."""

from __future__ import annotations

import subprocess
import sys
import time

from mollm_backend.store import Store, locks

HOLD = """
import sys, time
from mollm_backend.store import Store, locks
with locks.held(Store(sys.argv[1]), "train-7") as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_one_holder_at_a_time_and_death_frees_it(url: str) -> None:
    store = Store(url)
    with locks.held(store, "train-7") as mine, locks.held(store, "train-7") as again, locks.held(store, "x") as other:
        assert (mine, again, other) == (True, False, True)
    process = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with locks.held(store, "train-7") as mine:
            assert not mine
        process.kill()
        deadline = time.monotonic() + 60
        while True:
            with locks.held(store, "train-7") as mine:
                if mine:
                    break
            assert time.monotonic() < deadline
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    store.close()
