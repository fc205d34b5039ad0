"""Calls to a Label Studio server, with the SDK's HTTP client and tokens: retries, and our own errors.

Bodies are plain JSON: the SDK's typed models follow the Enterprise API and change what Community answers.
Only reads and refused connections are tried again, because a write that broke off may have been done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from mollm.errors import ConfigError
from mollm_backend.labelstudio.errors import (
    LabelStudioDown,
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioRefused,
    PrivateAddress,
)

T = TypeVar("T")
JSON = dict[str, Any]
ONCE: JSON = {"max_retries": 0}  # for the SDK: this module decides what is tried again


class Transport:
    """One server and one token. It opens no connection before the first call."""

    def __init__(self, url: str, api_key: str, *, timeout: float = 100.0) -> None:
        if not url:
            raise ConfigError(
                _not_set("LABEL_STUDIO_URL", "it is Label Studio's address, such as http://localhost:8080")
            )
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"LABEL_STUDIO_URL is {url!r}: give the whole address, such as http://localhost:8080.")
        if not api_key:
            raise ConfigError(_not_set("LABEL_STUDIO_API_KEY", "copy a token from Label Studio's Account & Settings"))
        self.url = url.rstrip("/")
        self._api_key = api_key
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def token_kind(self) -> str:
        """ "legacy" or "personal access"; a personal access token is a JSON Web Token, which has two dots."""
        return "personal access" if self._api_key.count(".") == 2 else "legacy"

    @cached_property
    def _sdk(self) -> Any:
        """The SDK's client. Creating it decodes a personal access token and checks that it has not expired."""
        from label_studio_sdk.client import LabelStudio

        transport = httpx.Client(timeout=self._timeout, follow_redirects=True)
        return LabelStudio(base_url=self.url, api_key=self._api_key, httpx_client=transport)

    def close(self) -> None:
        if "_sdk" in self.__dict__:
            self._sdk._client_wrapper.httpx_client.httpx_client.close()

    def _call(self, what: str, function: Callable[[], T], *, read: bool) -> T:
        """Run one call of the SDK and raise our own errors. Reads and refused connections are tried three times."""

        def again(error: BaseException) -> bool:
            if not isinstance(error, LabelStudioDown) or isinstance(error.__cause__, httpx.ReadTimeout):
                return False  # a server that takes a call and never answers would be waited for three times
            return read or isinstance(error.__cause__, httpx.ConnectError)

        attempts = Retrying(
            stop=stop_after_attempt(3), wait=wait_exponential(0.2, max=2), retry=retry_if_exception(again), reraise=True
        )
        for attempt in attempts:
            with attempt:
                return self._translated(what, function)
        raise AssertionError("tenacity ends with a result or an error")

    def _translated(self, what: str, function: Callable[[], T]) -> T:
        from label_studio_sdk.core.api_error import ApiError

        try:
            return function()
        except ApiError as error:
            raise self._error(what, error.status_code or 0, error.body) from error
        except httpx.ReadTimeout as error:
            raise LabelStudioDown(
                f"Label Studio at {self.url} took the call and did not answer ({what})",
                "see its log, or start it again",
            ) from error
        except httpx.TransportError as error:
            raise LabelStudioDown(
                f"Label Studio at {self.url} cannot be reached ({what}: {type(error).__name__})",
                "start it, or correct LABEL_STUDIO_URL",
            ) from error

    def _error(self, what: str, status: int, body: object) -> LabelStudioError:
        says = _detail(body)
        if "reserved network address" in says:
            return PrivateAddress(f"Label Studio at {self.url} talks to no private address ({what}: {says}).")
        if status in (401, 403):
            return LabelStudioRefused(
                f"Label Studio at {self.url} refused the {self.token_kind} token ({what}: {status} {says})",
                "copy a valid one from Account & Settings into LABEL_STUDIO_API_KEY (legacy tokens may be "
                "switched off for the organization)",
            )
        if status == 404:
            fix = (
                "correct the number, or LABEL_STUDIO_URL; `mollm disconnect` if a project was deleted there; what the "
                "token's user may not see looks the same"
            )
            return LabelStudioNotFound(f"Label Studio at {self.url} has no such thing ({what}: 404 {says})", fix)
        if status in (408, 429) or status >= 500:
            return LabelStudioDown(f"Label Studio at {self.url} failed ({what}: {status} {says})", "see its log")
        return LabelStudioError(f"Label Studio at {self.url} did not accept it ({what}: {status} {says}).")

    def _raw(
        self, what: str, method: str, path: str, *,
        params: JSON | None = None, body: object = None, seconds: float | None = None,
    ) -> Any:  # fmt: skip
        """Make a call and return its JSON answer; `seconds`: a time limit for this call alone."""

        def call() -> Any:
            from label_studio_sdk.core.api_error import ApiError

            send = self._sdk._client_wrapper.httpx_client.request
            more: JSON = {} if body is None else {"json": body}
            more["request_options"] = ONCE if seconds is None else ONCE | {"timeout_in_seconds": seconds}
            response = send(path, method=method, params=params, **more)
            if not response.is_success:
                raise ApiError(status_code=response.status_code, body=response.text)
            try:
                return response.json() if response.content else None
            except ValueError:
                raise LabelStudioError(
                    f"{self.url} answered {what} with something that is not JSON: is this a Label Studio?"
                ) from None

        return self._call(what, call, read=method == "GET")

    def _gone(self, what: str, path: str) -> None:
        """Delete something; it is no error if it does not exist any more."""
        try:
            self._raw(what, "DELETE", path)
        except LabelStudioNotFound:
            return


def _not_set(name: str, what: str) -> str:
    return f"{name} is not set: {what}. Export it, or write it into mollm.env in MOLLM_HOME, then start again."


def _detail(body: Any) -> str:
    """The message in an error body, cut to 300 characters; "" for an HTML page."""
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            return "" if body.lstrip().startswith("<") else body[:200]
    if isinstance(body, dict):
        detail = body.get("validation_errors") or body.get("detail") or body
        return (detail if isinstance(detail, str) else json.dumps(detail))[:300]
    return str(body)[:300]
