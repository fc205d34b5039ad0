"""A real worker that takes every job but trainings (run as a script): its memory is that of reading alone."""

from __future__ import annotations

from mollm_backend.jobs import worker
from mollm_backend.work import queues

if __name__ == "__main__":
    queues.QUEUES = ("publish", "reconcile", "annotate")
    worker.main()
