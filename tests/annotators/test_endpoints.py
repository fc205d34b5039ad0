"""Several addresses of one model, and how many requests each bears: on real sockets, some of which misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from mollm.annotators import _http, _limit
from mollm.annotators._http import Trouble
from mollm.annotators._limit import Limit
from mollm.annotators._servers import Servers
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorUnavailable
from tests.annotators.fake_server import FakeServer, asked
from tests.serving import Handler, serving


class Counted(Handler):
    """Answers after `seconds`, counts, and keeps the most that it had at once."""

    seconds, status = 0.0, 200
    lock = threading.Lock()
    count = busy = most = 0

    def do_POST(self) -> None:
        kind = type(self)
        self.body()
        with kind.lock:
            kind.count, kind.busy = kind.count + 1, kind.busy + 1
            kind.most = max(kind.most, kind.busy)
        self.reply()
        with kind.lock:
            kind.busy -= 1

    def reply(self) -> None:
        time.sleep(type(self).seconds)
        self.answer(json.dumps({"ok": type(self).__name__}).encode(), status=type(self).status)


def kind(name: str, **given: Any) -> type[Counted]:
    return type(name, (Counted,), {"lock": threading.Lock(), **given})


@contextmanager
def pool(*kinds: type[Counted], timeout: float = 5.0, concurrency: int = 4) -> Iterator[Servers]:
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(one)) for one in kinds]
        server = Servers(urls, None, timeout, concurrency, sleep=lambda seconds: time.sleep(min(seconds, 0.05)))
        try:
            yield server
        finally:
            server.close()


def asked_at_once(server: Servers, count: int, threads: int = 8, attempts: int = _http.ATTEMPTS) -> list[str]:
    def ask(_n: int) -> str:
        return str(server.call("POST", "/v1/x", {}, attempts)["ok"])

    with ThreadPoolExecutor(threads) as several:
        return list(several.map(ask, range(count)))


def test_all_addresses_share_the_work() -> None:
    one, two = kind("one", seconds=0.01), kind("two", seconds=0.01)
    with pool(one, two) as server:
        found = asked_at_once(server, 60)
    assert len(found) == 60
    assert min(found.count("one"), found.count("two")) >= 15


def test_a_slow_address_gets_fewer() -> None:
    slow, fast = kind("slow", seconds=0.2), kind("fast", seconds=0.005)
    with pool(slow, fast) as server:
        found = asked_at_once(server, 80)
    assert found.count("slow") < 20


def test_a_hanging_and_a_failing_address_lose_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hangs, one answers 500, one is fine: all is answered, and the two are soon left out."""
    monkeypatch.setattr(_http, "SHORTEST", 0.3)
    monkeypatch.setattr(_http, "KNOWN", 1)
    over = threading.Event()

    class Hanging(Counted):
        lock = threading.Lock()

        def reply(self) -> None:
            over.wait(20)

    failing, fine = kind("failing", status=500), kind("fine", seconds=0.002)
    with pool(Hanging, failing, fine) as server:
        assert server.call("POST", "/v1/x", {}, attempts=1)["ok"] == "fine" or fine.count == 1
        started = time.monotonic()
        found = asked_at_once(server, 100)
        took = time.monotonic() - started
        over.set()
    assert found == ["fine"] * 100
    assert took < 10, "a request that hangs is given up long before the time-out"
    assert failing.count <= 8 + _http.OPEN_AFTER
    assert Hanging.count <= 8 + _http.OPEN_AFTER


def test_an_address_that_recovers_is_asked_again() -> None:
    ill, fine = kind("ill", status=503), kind("fine")
    now = [0.0]
    with pool(ill, fine) as server:
        for one in server.each:
            one.circuit.clock = lambda: now[0]
        asked_at_once(server, 20, threads=2)
        assert not server.each[0].circuit.lets_in()
        before, ill.status = ill.count, 200
        asked_at_once(server, 10, threads=2)
        assert ill.count == before, "not before its pause is over"
        now[0] = _http.FIRST_PAUSE + 1
        found = asked_at_once(server, 40, threads=4)
    assert "ill" in found


def test_where_all_addresses_fail_it_is_told_and_then_not_asked() -> None:
    ill, dead = kind("ill", status=500), kind("dead", status=500)
    with pool(ill, dead) as server:
        with pytest.raises(Trouble, match="500"):
            server.call("POST", "/v1/x", {})
        for _ in range(2 * _http.OPEN_AFTER):
            with pytest.raises((Trouble, AnnotatorUnavailable)):
                server.call("POST", "/v1/x", {})
        with pytest.raises(AnnotatorUnavailable, match="is not asked for another"):
            server.call("POST", "/v1/x", {})


def test_a_server_that_has_too_much_is_asked_less() -> None:
    class Small(Counted):
        """Bears three at once, and answers 429 to the rest."""

        lock = threading.Lock()

        def reply(self) -> None:
            time.sleep(0.01)
            too_many = type(self).busy > 3
            self.answer(b'{"ok": "small"}', status=429 if too_many else 200)

    with pool(Small, concurrency=32) as server:
        found = asked_at_once(server, 200, threads=32, attempts=20)  # the waits between two are cut short here
        limit = server.each[0].limit.now
    assert len(found) == 200
    assert limit <= 6
    assert Small.count < 400, "most were not refused"


def test_a_panel_may_name_several_addresses() -> None:
    config = AnnotatorConfig.model_validate(
        {"name": "a", "model": "m", "runtime": "openai", "url": ["http://a", "http://b"]}
    )
    assert config.url == ("http://a", "http://b")
    with asked(FakeServer(), url=["http://one/v1", "http://two"]) as annotator:
        assert "http://one, http://two" in annotator.describe()
        assert all(answer.calls for answer in annotator.annotate(["a cat", "a dog"]))


def after(limit: Limit, seconds: Callable[[int], float], rounds: int) -> list[int]:
    """The limit after each round of as many answers as it allows, where so many at once take so long."""
    found = []
    for _ in range(rounds):
        now = limit.now
        for _n in range(max(now, _limit.FIRST)):
            limit.answered(seconds(now), now)
        found.append(limit.now)
    return found


def test_a_server_that_batches_is_filled() -> None:
    assert after(Limit(32), lambda at_once: 0.1 + 0.002 * at_once, 6)[-1] == 32


def test_one_by_one_the_limit_stays_low() -> None:
    found = after(Limit(32), lambda at_once: 0.1 * at_once, 60)
    assert max(found) <= 12
    assert min(found[5:]) >= 4


def test_a_limit_that_is_not_reached_does_not_grow() -> None:
    limit = Limit(32)
    for _ in range(50):
        limit.answered(0.1, 1)
    assert limit.now == _limit.FIRST


def test_what_is_slow_one_at_a_time_is_not_slow_from_too_many() -> None:
    limit = Limit(32)
    for seconds in (0.001, 0.001, 0.5, 60.0, 0.3, 0.4):
        limit.answered(seconds, 1)
    assert limit.now == _limit.FIRST
    for seconds in (0.001, 5.0):
        limit.answered(seconds, 2)
    assert limit.now == 1


def test_troubles_of_one_moment_halve_the_limit_once() -> None:
    limit = Limit(32)
    after(limit, lambda _at_once: 0.1, 8)
    for under_way in range(32, 0, -1):
        limit.refused(under_way)
    assert limit.now == 16


def test_a_limit_is_never_below_one_nor_above_the_most() -> None:
    limit = Limit(1)
    assert after(limit, lambda _at_once: 0.1, 5) == [1] * 5
    for _ in range(5):
        limit.refused(1)
    assert limit.now == 1


def test_where_all_becomes_slower_for_good_the_limit_comes_back() -> None:
    limit = Limit(32)
    after(limit, lambda at_once: 0.1 + 0.001 * at_once, 8)
    found = after(limit, lambda at_once: 1.0 + 0.01 * at_once, 120)
    assert min(found) == 1
    assert found[-1] == 32
