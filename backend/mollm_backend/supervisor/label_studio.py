"""The demo's Label Studio: the real Community edition, in a virtual environment of its own, on SQLite.

It pins a gigabyte of packages, so it never shares our environment; which they are is locked in `locks`.
`home/label-studio` is the environment, `home/label-studio-data` its database; a database whose first start was cut
short is made anew.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import httpx

from mollm_backend.supervisor.environments import LOCKS, Environment
from mollm_backend.supervisor.processes import ChildFailed, Family, Program

NAME = "label-studio"
VERSION = "1.23.2"  # as in locks/label-studio.in
USER = "demo@mollm.local"
STARTED = ".mollm-started"
# The backend is on the loopback; every other private network stays closed to the server's own requests.
BANNED = "169.254.0.0/16,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fe80::/10,fc00::/7"


@dataclass(frozen=True)
class Account:
    """The demo's user. `token` is a legacy token."""

    user: str
    password: str
    token: str


def account(home: Path) -> Account:
    """The demo user's password and token, generated on first use, in files that only the user can read."""
    return Account(USER, _secret(home, "label_studio_password", 12), _secret(home, "label_studio_token", 20))


def _secret(home: Path, name: str, size: int) -> str:
    path = home / "secrets" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_name(f".{name}.part")
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        part.write_text(secrets.token_hex(size), encoding="ascii")
        part.replace(path)
    return path.read_text(encoding="ascii").strip()


def environment(home: Path) -> Environment:
    """`home/label-studio`: about 5 minutes and 1 GB to install."""
    # Five of its packages have no wheel: they are built with the locked tools, never with those of the day.
    build, all_of_it = str(LOCKS / "build.txt"), str(LOCKS / "label-studio.txt")
    installs = (
        ("label-studio-build", ("--requirement", build)),
        ("label-studio-install", ("--no-build-isolation", "--requirement", all_of_it)),
    )
    return Environment(home / "label-studio", "label-studio", VERSION, installs)


def program(home: Path, host: str, port: int) -> Program:
    """Label Studio on `host:port`; its first start makes the database and the user (about a minute)."""
    data = home / "label-studio-data"
    if data.exists() and not (data / STARTED).exists():
        shutil.rmtree(data)  # its first start was cut short: nobody has worked in it yet
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    who = account(home)
    environment = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_USERNAME": who.user,
        "LABEL_STUDIO_PASSWORD": who.password,
        "LABEL_STUDIO_USER_TOKEN": who.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_HOST": f"http://{host}:{port}",
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": BANNED,
        "COLLECT_ANALYTICS": "False",
        "LATEST_VERSION_CHECK": "False",
        "DJANGO_DB": "sqlite",
        # By default it refuses a backend that does not answer within 1 and 3 s: too little on a busy machine.
        "ML_TIMEOUT_HEALTH": "30",
        "ML_TIMEOUT_SETUP": "30",
    }
    command = (
        str(home / "label-studio" / "bin" / "label-studio"),
        "start", "--no-browser", "--internal-host", host, "--port", str(port),
    )  # fmt: skip
    return Program(NAME, command, environment)


def is_ready(home: Path, url: str) -> bool:
    """Whether the server answers with our own user's token; remembers that the database is whole."""
    headers = {"Authorization": f"Token {account(home).token}"}
    try:
        answer = httpx.get(f"{url}/api/current-user/whoami", headers=headers, timeout=5.0, trust_env=False)
    except httpx.HTTPError:
        return False
    if answer.status_code != 200:
        return False
    (home / "label-studio-data" / STARTED).touch()
    return True


def require_alive(family: Family) -> None:
    """Raise ChildFailed where the server fell before it was ever ready."""
    child = family.children[NAME]
    if child.process.poll() is not None:
        raise ChildFailed(f"Label Studio did not start: {child.last_lines()} (all of it: {child.log})")
