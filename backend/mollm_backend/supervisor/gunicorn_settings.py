"""The settings with which gunicorn runs the web backend, for `mollm up` and for the web image.

Each name below is a gunicorn setting; an older gunicorn ignores those that it does not know.
"""

import os
import shutil
import tempfile

from mollm_backend import settings
from mollm_backend.store import Store

wsgi_app = "mollm_backend.web.wsgi:app"
# Processes; one is enough, because an answer is a look-up in the store (WEB_CONCURRENCY is gunicorn's own variable).
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
worker_class = "mollm_backend.supervisor.whole_heads.Worker"  # threads: requests mostly wait for the store
threads = 8  # requests at once; a guess: more of them hold more store connections open
timeout = 120  # seconds; Label Studio itself waits 100 s for an answer
graceful_timeout = 3  # seconds for running requests; the supervisor kills a child after 8 s
keepalive = 15  # seconds that an idle connection stays open; a guess: saves new connections, holds sockets
control_socket_disable = True  # all homes would share its file


def on_starting(_server: object) -> None:
    """Several processes count requests in files of one directory, which is new at each start; one needs none.

    The store is migrated here for all of them: two that migrate at once lock each other out.
    """
    if workers > 1:
        Store(settings.load().store_url).close()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="mollm-metrics-")


def on_exit(_server: object) -> None:
    shutil.rmtree(os.environ.pop("PROMETHEUS_MULTIPROC_DIR", ""), ignore_errors=True)
