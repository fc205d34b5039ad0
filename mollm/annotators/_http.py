"""HTTP calls to an LLM server: retries, the Retry-After header, and a circuit breaker.

`Trouble` means that the server failed. `Refused` means that it rejected this request. So one bad text does not stop
the other texts, and one dead server does not delay the rest of the panel.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import tenacity

from mollm.annotators._limit import Limit
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorError, AnnotatorUnavailable, ConfigError

ATTEMPTS = 4  # tries of one request; the waits sum to 3.5 s at most (chosen by hand: more survives longer failures)
LONGEST_WAIT = 30.0  # seconds (chosen by hand); after a longer Retry-After the call fails, its job runs again later
OPEN_AFTER = 3  # failed calls in a row (chosen by hand: fewer reacts to chance, more wastes time on a dead server)
# A server that answered in t seconds so far is taken to hang after SLACK * t, but not before SHORTEST (chosen by hand:
# load and longer texts make it slower). Each time that was too soon or it hangs indeed, twice as long, up to `timeout`.
SLACK, SHORTEST = 10.0, 15.0
KNOWN = 8  # answers before that holds: the first are probes, far shorter than the prompts that follow
MODELS = "/v1/"  # the paths behind which a model answers
PROMPT = 10.0  # seconds for an answer that needs no model, as the list of models
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 120.0  # seconds (chosen by hand: shorter notices sooner that the server is back)
# Servers' words for a prompt that is too long; the last are vLLM's where it leaves no token of the window.
OVERFLOWS = ("context", "too long", "maximum", "token limit", "max_tokens must be at least 1")
BUSY = frozenset({429, 503, 529})  # too many requests, a model that is loading, overloaded
RETRIABLE = BUSY | {408, 409, 425, 500, 502, 504}  # too early or failed: may succeed later


class Trouble(AnnotatorError):
    """The server failed or its answer cannot be read. The same request may succeed later."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Hangs(Trouble):
    """The server took the request and did not answer in time. At once it would do so again."""


class Busy(Trouble):
    """The server says itself that it cannot answer now."""


class Refused(AnnotatorError):
    """The server rejected the request (4xx). The same request would fail again."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def overflow(self) -> bool:
        """Whether the prompt was longer than the model's window, or left no place in it for an answer."""
        message = str(self).casefold()
        return self.status in (400, 413, 422) and any(words in message for words in OVERFLOWS)


def key_of(config: AnnotatorConfig) -> str | None:
    """The key from the environment variable that the panel file names (the file itself holds no secrets)."""
    if not config.api_key_env:
        return None
    if config.api_key_env not in os.environ:
        raise ConfigError(f"{config.name}: the environment variable {config.api_key_env} (api_key_env) is not set.")
    return os.environ[config.api_key_env]


class Circuit:
    """Stops calls (is open) after OPEN_AFTER troubles in a row. After a pause, which doubles up to LONGEST_PAUSE, one
    trial call passes. If it succeeds, the circuit closes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.troubles = 0
        self.pause = FIRST_PAUSE
        self.closed_until_trial = 0.0

    def enter(self, name: str, last: str) -> None:
        """Raises AnnotatorUnavailable while the circuit is open. The first call after the pause is the trial."""
        with self.lock:
            if self.troubles < OPEN_AFTER:
                return
            wait = self.closed_until_trial - self.clock()
            if wait > 0:
                raise AnnotatorUnavailable(f"{name} is not asked for another {wait:.0f} s; last: {last}")
            self.closed_until_trial = self.clock() + self.pause

    def lets_in(self) -> bool:
        """Whether `enter` would let a call pass now."""
        with self.lock:
            return self.troubles < OPEN_AFTER or self.clock() >= self.closed_until_trial

    def failed(self) -> None:
        with self.lock:
            self.troubles += 1
            if self.troubles >= OPEN_AFTER:
                self.closed_until_trial = self.clock() + self.pause
                self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def succeeded(self) -> None:
        with self.lock:
            self.troubles, self.pause = 0, FIRST_PAUSE


class Server:
    """One OpenAI-compatible endpoint. Thread-safe; `url` may end in /v1 or not. `limit`: how many requests at once it
    bears, by how it answers; `under_way`: how many it has, as its caller counts them."""

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout: float,
        concurrency: int,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        root = url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self.url = root
        self.http = httpx.Client(
            base_url=root, headers=headers, timeout=httpx.Timeout(timeout, connect=min(10.0, timeout)),
            limits=limits, transport=transport,
        )  # fmt: skip
        self.timeout = timeout
        self.slowest, self.answers = 0.0, 0  # seconds of the slowest answer of a model, and how many there were
        self.hung = 0  # times in a row
        self.circuit = Circuit()
        self.limit, self.under_way = Limit(concurrency), 0
        self.sleep = sleep
        self.last = ""

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, attempts: int = ATTEMPTS) -> Any:
        """The reply as a JSON object. Raises Trouble, Refused, and AnnotatorUnavailable while the circuit is open or
        the server hangs altogether.
        """
        self.circuit.enter(self.url, self.last)
        retry = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_worth_retrying),
            stop=tenacity.stop_after_attempt(attempts), wait=_wait, sleep=self.sleep, reraise=True,
        )  # fmt: skip
        try:
            found = retry(self._once, method, path, body)
        except Refused:
            self.circuit.succeeded()  # it answered: the server is up
            raise
        except Trouble as trouble:
            self.last = str(trouble)
            self.circuit.failed()
            if isinstance(trouble, Hangs) and not self.is_up():
                raise AnnotatorUnavailable(self.last) from None  # it is not this request: no other need be tried
            raise
        self.circuit.succeeded()
        return found

    def is_up(self) -> bool:
        """Whether the server answers at all."""
        try:
            self._once("GET", "/v1/models", None)
        except Refused:
            return True
        except AnnotatorError:
            return False
        return True

    def patience(self, method: str, path: str) -> float:
        """Seconds to wait for the answer to a request."""
        if method == "GET":
            return min(self.timeout, PROMPT)
        known = self.answers >= KNOWN and path.startswith(MODELS)
        usual = max(SHORTEST, SLACK * self.slowest) if known else self.timeout
        return float(min(self.timeout, usual * 2.0**self.hung))

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        started = time.monotonic()
        try:
            found = self._asked(method, path, body)
        except Trouble:
            self.limit.refused(self.under_way)
            raise
        self.limit.answered(time.monotonic() - started, self.under_way)
        return found

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        seconds, started, hung = self.patience(method, path), time.monotonic(), self.hung
        limit = httpx.Timeout(seconds, connect=min(10.0, seconds), pool=self.timeout)
        try:
            response = self.http.request(method, path, json=body, timeout=limit)
        except httpx.ReadTimeout:
            self.hung = max(self.hung, hung + 1)  # several requests at once hang once
            raise Hangs(f"{self.url}{path} took the request and did not answer within {seconds:.0f} s") from None
        except httpx.HTTPError as error:
            raise Trouble(f"{self.url} cannot be reached ({type(error).__name__}: {error})") from None
        if method == "POST" and path.startswith(MODELS):
            self.slowest, self.hung = max(self.slowest, time.monotonic() - started), 0
            self.answers += 1
        status = response.status_code
        if status in RETRIABLE:
            kind = Busy if status in BUSY else Trouble
            raise kind(f"{self.url}{path} answered {status}: {_words(response)}", _retry_after(response))
        if status >= 400:
            raise Refused(f"{self.url}{path} refused ({status}): {_words(response)}", status)
        try:
            found = response.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise Trouble(f"{self.url}{path} answered no JSON: {_words(response)!r}; is this an LLM server?") from None
        if not isinstance(found, dict):
            raise Trouble(f"{self.url}{path} answered {type(found).__name__}, not a JSON object")
        return found

    def close(self) -> None:
        self.http.close()


def _worth_retrying(error: BaseException) -> bool:
    return isinstance(error, Trouble) and not isinstance(error, Hangs) and (error.retry_after or 0.0) <= LONGEST_WAIT


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt: exponential with full jitter, never less than the server's Retry-After."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, Trouble) and error.retry_after else 0.0
    jitter: float = tenacity.wait_random_exponential(multiplier=0.5, max=8)(state)
    return max(asked, jitter)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds from the header, which holds seconds or a date. None if it holds neither."""
    value = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _words(response: httpx.Response) -> str:
    """The server's error message on one line, at most 200 characters."""
    try:
        body = response.json()
        error = body.get("error", body) if isinstance(body, dict) else body
        text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except (json.JSONDecodeError, UnicodeDecodeError):
        text = response.text
    return " ".join(text.split())[:200]
