"""`mollm web`: the web backend alone, in the foreground, for a host or a container of its own."""

from __future__ import annotations

import contextlib
import os

from mollm_backend import settings
from mollm_backend.cli.terminal import note
from mollm_backend.supervisor import parts, ports


def web() -> None:
    """Serve the web backend alone until SIGTERM or Ctrl-C, as `mollm up` does; the workers run elsewhere.

    It listens on MOLLM_HOST and MOLLM_PORT, and takes no other port if that one is busy. WEB_CONCURRENCY is the number
    of processes. Give it the same DATABASE_URL, REDIS_URL and secrets as the workers.
    """
    loaded = settings.load()
    server = ports.listen(loaded.host, loaded.port, tries=1)
    url = loaded.backend_url or f"http://{ports.reachable(loaded.host)}:{loaded.port}"
    with contextlib.suppress(OSError):  # a home that nobody may write to: then `connect` is told --backend-url
        settings.note_backend(loaded.home, url)
    note(f"web backend and status page: {url}/  user {loaded.basic_auth_user}")
    os.set_inheritable(server.fileno(), True)
    program = parts.web(server, {})
    os.execv(program.command[0], program.command)  # noqa: S606 - no shell: signals reach gunicorn itself
