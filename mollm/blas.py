"""One thread for small problems: their threads wait for each other many times longer than they work."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import cast

from threadpoolctl import ThreadpoolController


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Within it BLAS and OpenMP use one thread. For fits on a few hundred rows, and for sums that shall be the same."""
    return cast(AbstractContextManager[object], _pools().limit(limits=1))
