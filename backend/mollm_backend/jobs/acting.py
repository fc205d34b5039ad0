"""What people ask for is done here, whether by a button of the page or by a command, and noted in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import redis
import structlog

from mollm.errors import InputError, MollmError
from mollm_backend.jobs import audit_outlook, auditing
from mollm_backend.jobs.audit_outlook import Plan, Wanted
from mollm_backend.store import Store, pins, projects
from mollm_backend.store.audits import Audit
from mollm_backend.work import actions, queues
from mollm_backend.work.actions import Asked
from mollm_backend.work.asked import nothing_to_learn, unseen, waits_for

log = structlog.get_logger()


def act(store: Store, connection: redis.Redis, asked: Asked) -> None:
    """Do what was asked for on the page, once. What stands in the way is noted too: the person reads it there."""
    ways: dict[str, Callable[[], object]] = {
        "rollback": partial(roll_back, store, connection, asked),
        "unpin": partial(unpin, store, connection, asked),
        "train": partial(train, store, connection, asked),
        "retry": partial(retry, store, connection, asked),
        "audit": partial(_audit, store, connection, asked),
    }
    try:
        ways[asked.action]()
    except MollmError as error:
        actions.note(store, asked, f"not done. {error}")
    except Exception as error:
        actions.note(store, asked, f"not done. Unexpected {type(error).__name__}: see the worker's log")
        log.error("action failed", action=asked.action, project=asked.project_id, exc_info=error)
        raise


def roll_back(store: Store, connection: redis.Redis, asked: Asked, *, until_next: bool = False) -> list[str]:
    """Publish the version `asked.subject` and its batch again, and pin the project to it. Returns what to say.

    Raises InputError where there is nothing to go back to, and RedisError where no queue takes the publishing.
    """
    project = actions.check(store, connection, asked)
    connection.ping()
    batch = actions.batch_of(store, project.id, asked.subject)
    pins.pin(store, project.id, asked.subject, batch, until_next=until_next)
    queues.enqueue(connection, "publish", "publish", project.id)
    lines = [f"Rolled back to {asked.subject}; Label Studio follows in seconds.",
             f"The project is {projects.get(store, project.id).pin}."]  # fmt: skip
    actions.note(store, asked, f"done. {lines[1]}")
    return lines


def unpin(store: Store, connection: redis.Redis, asked: Asked) -> list[str]:
    """Let new versions be published again; the newest that was held back is published now. Returns what to say."""
    project = actions.check(store, connection, asked)
    if not project.pin:
        lines = [f"Project {project.id} is not pinned: each new version that passes the gate is published."]
        actions.note(store, asked, f"nothing to do. {lines[0]}")
        return lines
    connection.ping()
    held = pins.unpin(store, project.id)
    if held is None:
        stays = f"{project.published_version} stays until the next that passes the gate"
        lines = [f"Unpinned. No version was held back: {stays}."]
    else:
        queues.enqueue(connection, "publish", "publish", project.id)
        lines = [f"Unpinned. {held}, which was held back, is published; Label Studio follows in seconds."]
    actions.note(store, asked, f"done. {lines[0]}")
    return lines


def train(store: Store, connection: redis.Redis, asked: Asked, *, anyway: bool = False) -> list[str]:
    """Ask for a training, which follows the next reading of Label Studio's labels. Returns what to say.

    Raises InputError where it would learn nothing (`anyway`: it would, from prompts that have just changed).
    """
    project = actions.check(store, connection, asked)
    if not anyway and not unseen(connection, project.id) and (why := nothing_to_learn(store, project)):
        raise InputError(why)
    queues.request_training(connection, project.id)
    lines = [f"Asked for a training; {waits_for(store, connection, project)}."]
    actions.note(store, asked, f"noted. {lines[0]}")
    return lines


def retry(store: Store, connection: redis.Redis, asked: Asked) -> list[str]:
    """Let a job that failed be tried at once instead of later: the sweep after this one queues it if it is due."""
    project = actions.check(store, connection, asked)
    queues.release(connection, asked.subject)
    queues.enqueue(connection, "reconcile", "reconcile", project.id)
    lines = [f"{asked.subject} is tried again now."]
    actions.note(store, asked, f"done. {lines[0]}")
    return lines


def draw(store: Store, asked: Asked, wanted: Wanted) -> tuple[Plan, Audit]:
    """Plan an audit and draw it: people see its tasks among the others. Raises InputError where none can be made, and
    where it would certify nothing."""
    project = projects.get(store, asked.project_id)
    planned = audit_outlook.plan(store, project, wanted)
    if planned.hopeless:
        raise InputError(f"{planned.hopeless} `mollm audit {project.id} --dry-run` with other numbers tells more.")
    made = auditing.make(store, project, planned.audit, planned.rest, planned.text_keys)
    actions.note(store, asked, f"done. {made.id} is drawn; people see its tasks among the others")
    return planned, made


def _audit(store: Store, connection: redis.Redis, asked: Asked) -> None:
    """An estimate of how right the rest is, from as many labels as asked for."""
    actions.check(store, connection, asked)
    seed = int(np.random.default_rng().integers(2**31))
    number = actions.labels_of(asked)
    draw(store, replace(asked, subject=str(number)), Wanted(labels=number, seed=seed))
