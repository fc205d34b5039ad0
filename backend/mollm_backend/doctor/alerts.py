"""Whether alerts reach somebody, where they are set."""

from __future__ import annotations

from collections.abc import Iterator

import redis

from mollm.errors import ConfigError
from mollm_backend.doctor.finding import Finding, fine, problem
from mollm_backend.jobs.alerting import job
from mollm_backend.settings import Settings
from mollm_backend.work import queues
from mollm_backend.work.alerts import ways


def examine(settings: Settings) -> Iterator[Finding]:
    """Nothing where no way is set."""
    try:
        found = ways(settings)
        failing = queues.failing(queues.connect(settings.queue_url)) if found else {}
    except ConfigError as error:
        yield problem("alerts", f"alerts cannot be sent: {error}", "correct it in the environment or in mollm.env")
        return
    except redis.RedisError:
        return  # said elsewhere
    for way in found:
        if times := failing.get(job(way), 0):
            yield problem("alerts", f"{way.line()}: not sent, {times} tries failed", "`mollm alerts --test` says why")
        else:
            yield fine("alerts", f"alerts go by {way.line()}")
