"""HTTP manners (issue 3, deliver 4): what is retried and when, the circuit, bounded concurrency."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import tenacity

from mollm.annotators import _http
from mollm.annotators._http import Circuit, Hangs, Refused, Server, Trouble
from mollm.errors import AnnotatorUnavailable
from tests.annotators.fake_server import ALL, LLAMA_CPP, FakeServer, asked

OK = httpx.Response(200, json={})


class Counting(httpx.BaseTransport):
    """Answers in turn, the last for ever, and counts."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        self.replies, self.count = replies, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self.replies[min(self.count, len(self.replies) - 1)]
        self.count += 1
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)


def server(*replies: httpx.Response | Exception) -> tuple[Server, Counting, list[float]]:
    transport, waits = Counting(*replies), list[float]()
    return Server("http://fake", None, 5.0, 2, transport=transport, sleep=waits.append), transport, waits


@pytest.mark.parametrize("status", sorted(_http.RETRIABLE))
def test_what_may_pass_is_retried(status: int) -> None:
    one, transport, waits = server(httpx.Response(status), httpx.Response(status), OK)
    assert one.call("GET", "/x") == {}
    assert (transport.count, len(waits)) == (3, 2)


@pytest.mark.parametrize("error", [httpx.ConnectError("no"), httpx.RemoteProtocolError("cut")])
def test_a_broken_connection_is_retried(error: Exception) -> None:
    one, transport, _ = server(error, OK)
    assert one.call("GET", "/x") == {}
    assert transport.count == 2


def test_a_server_that_hangs_is_not_waited_for_again_at_once() -> None:
    one, transport, waits = server(httpx.ReadTimeout("slow"), OK)
    with pytest.raises(Hangs, match="did not answer within 5 s"):
        one.call("POST", "/v1/completions", {})
    assert (transport.count, waits) == (2, [])  # the second asks for the models: it is this request that hangs
    one, transport, waits = server(httpx.ReadTimeout("slow"))
    with pytest.raises(AnnotatorUnavailable, match="did not answer within 5 s"):
        one.call("POST", "/v1/completions", {})
    assert (transport.count, waits) == (2, [])


def test_patience_follows_what_the_server_took_so_far() -> None:
    one, transport, _ = server(OK)
    one.timeout = 600.0
    assert one.patience("GET", "/v1/models") == _http.PROMPT
    assert one.patience("POST", "/v1/completions") == 600  # nothing is known of it yet: it may load a model now
    one.call("POST", "/tokenize", {})
    assert one.slowest == 0  # no model answered
    for _ in range(_http.KNOWN):
        assert one.patience("POST", "/v1/completions") == 600  # probes are shorter than what follows
        one.call("POST", "/v1/completions", {})
    assert one.patience("POST", "/v1/completions") == _http.SHORTEST
    one.slowest = 4.0
    assert one.patience("POST", "/v1/completions") == 4 * _http.SLACK
    transport.replies = (httpx.ReadTimeout("slow"), OK, httpx.ReadTimeout("slow"), OK)
    transport.count = 0
    for n in (1, 2):
        with pytest.raises(Hangs):
            one.call("POST", "/v1/completions", {})
        assert one.patience("POST", "/v1/completions") == 4 * _http.SLACK * 2**n
    one.call("POST", "/v1/completions", {})
    assert one.patience("POST", "/v1/completions") == 4 * _http.SLACK


@pytest.mark.parametrize("can", [ALL, LLAMA_CPP])
@pytest.mark.parametrize("reply", [httpx.ReadTimeout("slow"), httpx.Response(503)])
def test_a_server_that_is_slow_or_busy_at_first_is_not_asked_in_a_worse_way(
    can: frozenset[str], reply: httpx.Response | Exception
) -> None:
    def loading(request: httpx.Request, body: dict[str, Any]) -> httpx.Response | None:
        if not {"logprob_token_ids", "logit_bias"} & body.keys():
            return None
        if isinstance(reply, Exception):
            raise reply
        return reply

    fake = FakeServer(can, broken=loading)
    with pytest.raises(AnnotatorUnavailable, match=r"took the request|503"), asked(fake, prompt="plain"):
        pass
    fake.broken = lambda request, body: None
    with asked(fake, prompt="plain") as annotator:
        assert "exact" in annotator.describe()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_not_retried_and_opens_no_circuit(status: int) -> None:
    one, transport, waits = server(httpx.Response(status, json={"error": {"message": "because"}}))
    for _ in range(5):
        with pytest.raises(Refused, match="because"):
            one.call("POST", "/x", {})
    assert (transport.count, waits) == (5, [])


def test_it_gives_up_after_some_attempts_and_does_not_wait_after_the_last() -> None:
    one, transport, waits = server(httpx.Response(503))
    with pytest.raises(Trouble, match="503"):
        one.call("GET", "/x")
    assert (transport.count, len(waits)) == (_http.ATTEMPTS, _http.ATTEMPTS - 1)


def test_waits_are_jittered_and_grow() -> None:
    """Full jitter: hundreds of workers that failed together do not come back together."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    means = []
    for state.attempt_number in (1, 2, 3, 4):
        waits = [_http._wait(state) for _ in range(300)]
        assert len(set(waits)) > 250
        assert min(waits) < 0.2 * max(waits) <= 0.2 * 8
        means.append(sum(waits) / len(waits))
    assert means == sorted(means)


def test_retry_after_as_a_date_is_obeyed() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    one, _, waits = server(httpx.Response(429, headers={"retry-after": when}), OK)
    one.call("GET", "/x")
    assert 8 < waits[0] <= 20  # without the date it would be 8 at most


def test_retry_after_that_means_nothing_is_left_aside() -> None:
    one, _, waits = server(httpx.Response(429, headers={"retry-after": "soon"}), OK)
    one.call("GET", "/x")
    assert waits[0] <= 8


def test_a_circuit_lets_one_trial_through_and_doubles_its_pause() -> None:
    now = [0.0]
    circuit = Circuit(lambda: now[0])
    for _ in range(_http.OPEN_AFTER):
        circuit.enter("s", "")
        circuit.failed()
    with pytest.raises(AnnotatorUnavailable, match="another 5 s; last: crash"):
        circuit.enter("s", "crash")
    now[0] = 5.1
    circuit.enter("s", "")  # the trial
    with pytest.raises(AnnotatorUnavailable):
        circuit.enter("s", "")  # nobody else, until it is known how the trial went
    circuit.failed()
    now[0] = 10.2
    with pytest.raises(AnnotatorUnavailable):
        circuit.enter("s", "")
    now[0] = 15.2
    circuit.enter("s", "")
    circuit.succeeded()
    for _ in range(5):
        circuit.enter("s", "")


def test_a_timeout_is_the_configured_one() -> None:
    one, _, _ = server(OK)
    assert one.http.timeout.read == 5.0
    assert one.http.timeout.connect == 5.0


@pytest.mark.parametrize("can", [ALL, LLAMA_CPP, ALL - {"logprob_token_ids"}], ids=["ids", "biased", "top"])
def test_no_more_requests_at_once_than_configured(can: frozenset[str]) -> None:
    busy, most, lock, two = [0], [0], threading.Lock(), threading.Event()

    def slow(request: httpx.Request, body: object) -> None:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
            if busy[0] > 1:
                two.set()
        two.wait(60)  # the first one stays until another is there
        time.sleep(0.01)
        with lock:
            busy[0] -= 1

    fake = FakeServer(can)
    with asked(fake, prompt="plain", orders=1, batch_size=1, concurrency=3) as annotator:
        fake.broken = slow  # type: ignore[assignment]
        annotator.annotate([f"text {n}" for n in range(12)])
    assert 2 <= most[0] <= 3
