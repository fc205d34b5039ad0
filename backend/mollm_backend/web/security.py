"""Who may call, and what a browser may do with an answer: basic auth, the headers of every answer, and CSRF tokens.

A browser sends basic auth with whatever posts to us, also from another site's page. So an action needs a token that
only our own pages hold; what a browser says of the request's origin is looked at as well.
"""

from __future__ import annotations

import hmac
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Flask, Request, Response, request
from werkzeug.exceptions import Forbidden, Unauthorized

from mollm_backend.labelstudio import events
from mollm_backend.settings import Settings

HEADERS = {
    # Nothing is loaded from elsewhere, no script or style stands in a page, and no other page may frame or post ours.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",  # no other site's page may load ours as a script or a picture
    # Another site is told nothing. Not `no-referrer`: with that a browser also hides the origin of our own forms
    # ("Origin: null"), and a post from another site looks the same.
    "Referrer-Policy": "same-origin",
}
NO_STORE = "no-store"  # pages hold people's texts and labels: they stay in no cache
FIELD = "csrf"  # the form's field
DAYS = 1  # a token of yesterday is good, so that a page that is open at midnight still works


def basic_auth_right(settings: Settings, asked: Request) -> bool:
    """Whether the request has the right basic auth. The comparison takes constant time."""
    given = asked.authorization
    user = (given.username if given and given.type == "basic" else "") or ""
    password = (given.password if given and given.type == "basic" else "") or ""
    right_user = hmac.compare_digest(user.encode(), settings.basic_auth_user.encode())
    secret = settings.basic_auth_password.get_secret_value()
    return hmac.compare_digest(password.encode(), secret.encode()) and right_user


def webhook_secret_right(settings: Settings, asked: Request) -> bool:
    """Whether the request has our secret header. Annotation events have it and no basic auth."""
    given = asked.headers.get(events.SECRET_HEADER, "")
    return hmac.compare_digest(given.encode(), settings.webhook_secret.get_secret_value().encode())


def install(app: Flask, settings: Settings) -> None:
    """Let nobody in without credentials, and put the headers on every answer, an error too."""

    @app.before_request
    def same_site() -> None:
        if request.method not in ("GET", "HEAD", "OPTIONS") and not _of_our_site(settings, request):
            raise Forbidden(
                "This request came from another site: nothing was done. Open the page itself and press there."
            )

    @app.before_request
    def authenticate() -> None:
        if request.path in ("/health", "/ready") or basic_auth_right(settings, request):
            return
        if request.path == "/webhook" and webhook_secret_right(settings, request):
            return
        raise Unauthorized("Wrong or missing credentials: see `mollm doctor`.")

    @app.after_request
    def protect(answer: Response) -> Response:
        answer.headers.update(HEADERS)
        answer.headers.setdefault("Cache-Control", NO_STORE)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = 'Basic realm="mollm"'
        return answer


def today() -> date:
    """The day (UTC) of which new tokens are."""
    return datetime.now(UTC).date()


def token(settings: Settings, user: str, day: date) -> str:
    """The token of a user's forms on a day. It is the same all day, so that a page changes only when its data do."""
    password = settings.basic_auth_password.get_secret_value()
    # Both secrets: Label Studio knows the webhook's, and a password may be a word that somebody guesses.
    key = hmac.digest(password.encode(), b"csrf\n" + settings.webhook_secret.get_secret_value().encode(), sha256)
    subject = f"{day.isoformat()}\n{user}"
    return f"{day.isoformat()}.{hmac.digest(key, subject.encode(), sha256).hex()}"


def check_action(settings: Settings, asked: Request, user: str, day: date) -> None:
    """Raise Forbidden unless the request comes from a form of our own pages, of this user, of today or yesterday."""
    given = asked.form.get(FIELD, "").encode()
    good = [token(settings, user, day - timedelta(days=back)).encode() for back in range(DAYS + 1)]
    if not any(hmac.compare_digest(given, one) for one in good):
        raise Forbidden(
            "The form is too old, or not of this page: nothing was done. Load the page again and repeat it."
        )


def _of_our_site(settings: Settings, asked: Request) -> bool:
    """What the browser says of where the request began; an old browser, or a program, says nothing."""
    site = asked.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = asked.headers.get("Origin")
    if origin is None:
        return True
    return urlsplit(origin).netloc in {asked.host, urlsplit(settings.backend_url).netloc} - {""}
