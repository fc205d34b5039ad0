"""The programs of mollm itself: the web backend, the worker, and the download of models."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping

import httpx

from mollm_backend.supervisor.processes import ChildFailed, Family, Program

# Names of children; their log and record files are named after them.
WEB = "web"
WORKER = "worker"
FETCH = "fetch-"  # followed by the package's name


def web(server: socket.socket, environment: Mapping[str, str]) -> Program:
    """gunicorn, on a socket that is already open."""
    settings = "python:mollm_backend.supervisor.gunicorn_settings"
    command = (sys.executable, "-m", "gunicorn", "--config", settings, "--bind", f"fd://{server.fileno()}")
    return Program(WEB, command, environment, keep=(server.fileno(),))


def worker(environment: Mapping[str, str]) -> Program:
    """The only RQ worker. It lowers its own priority, so that a person who opens a task is served first."""
    return Program(WORKER, (sys.executable, "-m", "mollm_backend.jobs.worker"), environment)


def fetch(name: str, models: str, *, needed: bool) -> Program:
    """Downloads a model into the directory `models`. The lines that it prints are its progress.

    `needed`: without it nothing goes on; else the rest goes on where it cannot be fetched.
    """
    command = (sys.executable, "-m", "mollm_backend.supervisor.fetch", name, models)
    return Program(f"{FETCH}{name.replace('/', '--')}", (*command, *(["needed"] if needed else [])), niceness=5)


def wait_for_web(family: Family, url: str, seconds: float = 300.0) -> None:
    """Wait until /health answers. Raises ChildFailed, with the log's last lines, if it ends or takes too long."""
    child = family.children[WEB]
    deadline = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=2.0, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if child.process.poll() is not None or time.monotonic() > deadline:
            raise ChildFailed(f"The web backend did not start: {child.last_lines()} (all of it: {child.log})")
        time.sleep(0.2)
