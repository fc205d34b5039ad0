"""Label Studio's convention: `label-studio-ml start backend` runs this file. It serves mollm's own app.

`from _wsgi import app` and `from _wsgi import init_app` work as with Label Studio's own examples, and so does the test
file that its template puts beside them.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.datastructures import Authorization

from mollm_backend import logs, settings
from mollm_backend.settings import Settings
from mollm_backend.web.app import create_app


def init_app(
    model_class: Any = None,  # noqa: ARG001 - Label Studio's examples give it
    basic_auth_user: str = "",
    basic_auth_pass: str = "",
    **_others: Any,
) -> Flask:
    """mollm's app; `model_class` is not needed, since mollm has one. Every page but /health asks for the login.

    Without a login given here it is that of the settings: see `where_the_login_is`.
    """
    loaded = _settings(basic_auth_user, basic_auth_pass)
    app = create_app(loaded)
    app.test_client_class = _logged_in(loaded)
    return app


def _logged_in(loaded: Settings) -> type[FlaskClient]:
    """A test client that sends the login where `app.config["TESTING"]` is set: upstream's test file knows of none.

    Only code in this process holds such a client; whoever comes over the network is asked as ever.
    """
    secret = loaded.basic_auth_password.get_secret_value()
    header = Authorization("basic", {"username": loaded.basic_auth_user, "password": secret}).to_header()

    class LoggedIn(FlaskClient):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.application.config["TESTING"]:
                self.environ_base["HTTP_AUTHORIZATION"] = header

    return LoggedIn


def where_the_login_is(loaded: Settings) -> str:
    """A line that names the user, and where the password lies or came from; never the password itself."""
    path = settings.password_file(loaded.shared_dir)
    kept = path.is_file() and path.read_text(encoding="ascii").strip() == loaded.basic_auth_password.get_secret_value()
    where = f"password in {path}" if kept else "password as you set it (MOLLM_BASIC_AUTH_PASSWORD or BASIC_AUTH_PASS)"
    return f"mollm: Label Studio asks for the backend's login: user {loaded.basic_auth_user}, {where}"


def _settings(user: str = "", password: str = "") -> Settings:
    loaded = settings.load()
    given = {"basic_auth_user": user, "basic_auth_password": SecretStr(password) if password else None}
    return loaded.model_copy(update={name: value for name, value in given.items() if value})


def __getattr__(name: str) -> Flask:
    """`app` is made when it is first asked for: importing this file does nothing."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    loaded = _settings()
    logs.set_up(loaded.log_level)
    globals()["app"] = made = create_app(loaded)
    return made


def main() -> None:
    """Serve until Ctrl-C, with the options that `label-studio-ml start` passes on."""
    loaded = settings.load()
    parser = argparse.ArgumentParser(description="mollm as a Label Studio ML backend (development server).")
    parser.add_argument("-p", "--port", type=int, default=loaded.port)
    parser.add_argument("--host", default=loaded.host)
    parser.add_argument("--basic-auth-user", default="")
    parser.add_argument("--basic-auth-pass", default="")
    arguments, _others = parser.parse_known_args()
    loaded = _settings(arguments.basic_auth_user, arguments.basic_auth_pass)
    logs.set_up(loaded.log_level)
    sys.stdout.write(f"{where_the_login_is(loaded)}\n")
    sys.stdout.flush()
    create_app(loaded).run(host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
