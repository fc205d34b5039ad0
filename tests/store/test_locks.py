"""One holder at a time, also in another process, whose death frees the lock."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import ExitStack

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


def test_those_that_are_free_are_held_and_one_is_waited_for(url: str) -> None:
    store, other = Store(url), Store(url)
    with locks.those_free(store, ["a", "b"]) as mine:
        assert sorted(mine) == ["a", "b"]
        with locks.those_free(other, ["b", "c"]) as rest, locks.those_free(other, ["a", "c"]) as none:
            assert (rest, none) == (["c"], [])
        started = time.monotonic()
        with locks.those_free(other, ["a"], patience=0.3) as none:
            assert none == []
        assert time.monotonic() - started >= 0.3
        stack = ExitStack()
        stack.enter_context(locks.those_free(other, ["c"]))
        end = threading.Timer(0.2, stack.close)
        end.start()
        with locks.those_free(store, ["c"], patience=30.0) as waited:
            assert waited == ["c"]
        end.join()
    store.close()
    other.close()
