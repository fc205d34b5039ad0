"""One BLAS thread for small problems: their threads wait for each other many times longer than they work."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import cast

from threadpoolctl import ThreadpoolController


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Within it BLAS uses one thread. For fits on a few hundred rows."""
    return cast(AbstractContextManager[object], _blas().limit(limits=1, user_api="blas"))
