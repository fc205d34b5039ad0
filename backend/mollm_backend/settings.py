"""Settings: read once at the start, from the environment and `$MOLLM_HOME/mollm.env`, and not changed afterwards."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from mollm.config import LoopConfig, PanelConfig
from mollm.errors import ConfigError
from mollm_backend import disk, panels

FILE = "mollm.env"  # in the home, so that every command reads the same settings
SECRETS = ("basic_auth_password", "webhook_secret")  # made where they are not set
DEMO_FILE = "demo.json"  # in the home, while `mollm up --demo` runs: where its Label Studio is, and its token


def _alias(name: str, theirs: str) -> AliasChoices:
    """Our variable, and the name that Label Studio's own ML backends know; of two in one place ours wins."""
    return AliasChoices(f"MOLLM_{name}", theirs)


def _word(given: Any) -> Any:
    return str(given) if isinstance(given, Path) else given


def _level(given: Any) -> Any:
    return given.upper() if isinstance(given, str) else given


class Settings(BaseSettings):
    """Everything that a user may set. A field's environment variable is MOLLM_<NAME>, or its alias if it has one."""

    model_config = SettingsConfigDict(
        env_prefix="MOLLM_", frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    home: Path = Field(Path("~/.mollm"), description="where everything lies: store, models, secrets, logs")
    secrets_dir: Path = Field(
        Path("/run/secrets"),  # where Docker, Podman and docker/kubernetes.yaml put them
        description="files named like variables, each with a value: secrets need not be in the environment",
    )
    shared: Annotated[str, BeforeValidator(_word)] = Field(
        "",
        description="a directory that all hosts see: versions, secrets, backups; or the address of an object store "
        "(`s3://bucket/mollm`, read by fsspec), for the versions alone; default: MOLLM_HOME",
    )
    label_studio_url: str = Field("", validation_alias="LABEL_STUDIO_URL", description="the Label Studio server")
    label_studio_api_key: SecretStr = Field(
        SecretStr(""), validation_alias="LABEL_STUDIO_API_KEY", description="legacy or personal access token"
    )
    database_url: str = Field("", validation_alias="DATABASE_URL", description="default: SQLite under MOLLM_HOME")
    redis_url: str = Field("", validation_alias="REDIS_URL", description="default: embedded Valkey under MOLLM_HOME")
    panel: Annotated[str, BeforeValidator(_word)] = Field(
        "", description="a panel's name (`mollm panel list`) or its TOML file; default: the two small models"
    )
    llama_cpp_threads: int = Field(0, ge=0, description="CPU threads of a llama.cpp server; 0: all cores but one")
    host: str = Field("127.0.0.1", description="address that the web backend listens on")
    port: int = Field(
        9090,
        ge=1,
        le=65535,
        validation_alias=_alias("PORT", "PORT"),
        description="first port to try for the web backend; PORT is understood too",
    )
    backend_url: str = Field("", description="the backend's address as Label Studio sees it")
    basic_auth_user: str = Field(
        "mollm",
        validation_alias=_alias("BASIC_AUTH_USER", "BASIC_AUTH_USER"),
        description="the user of the backend's login; BASIC_AUTH_USER is understood too",
    )
    basic_auth_password: SecretStr = Field(
        SecretStr(""),
        validation_alias=_alias("BASIC_AUTH_PASSWORD", "BASIC_AUTH_PASS"),
        description="its password; default: made once, in MOLLM_HOME/secrets; BASIC_AUTH_PASS is understood too",
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""), description="what events must carry; default: made once, in MOLLM_HOME/secrets"
    )
    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="larger requests are refused")
    refit_every: int = Field(50, ge=1, description="new human labels that start a refit")
    batch_size: int = Field(50, ge=1, description="tasks of a batch; more stand behind it in reserve")
    backup_hours: float | None = Field(
        None, ge=0, description="hours between two backups of a worker; default: 24 for SQLite, 0 (none) for PostgreSQL"
    )
    backups_kept: int = Field(7, ge=1, description="how many of them are kept")
    sweep_seconds: float = Field(30.0, gt=0, description="how often a worker looks for what is missing")
    chunk_texts: int = Field(0, ge=0, description="texts an LLM is asked for at once; 0: as many as take some seconds")
    encoder: str = Field(
        "all-MiniLM-L6-v2",
        description="the text encoder: a directory, one among the models, an id on a hub (`org/name@revision`), or a "
        "registry package (`name==version`)",
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_level)] = Field(
        "INFO",
        validation_alias=_alias("LOG_LEVEL", "LOG_LEVEL"),
        description="least level that is logged; LOG_LEVEL is understood too",
    )
    model_dir: Path | None = Field(
        None,
        validation_alias=_alias("MODEL_DIR", "MODEL_DIR"),
        description="where the models lie; default: MOLLM_HOME/models; MODEL_DIR is understood too",
    )
    alert_webhook: SecretStr = Field(SecretStr(""), description="address that alerts are posted to; default: none")
    alert_webhook_secret: SecretStr = Field(SecretStr(""), description="signs what is posted (X-Mollm-Signature)")
    alert_mail_to: str = Field("", description="addresses that alerts are mailed to, with commas; default: none")
    alert_mail_from: str = Field("", description="the sender of these mails; default: mollm@ the mail server")
    smtp_host: str = Field("", description="the mail server for alerts")
    smtp_port: int = Field(587, ge=1, le=65535, description="its port")
    smtp_security: Literal["starttls", "tls", "none"] = Field("starttls", description="how mail is encrypted")
    smtp_user: str = Field("", description="the login at the mail server; empty: none")
    smtp_password: SecretStr = Field(SecretStr(""), description="its password")

    @property
    def store_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'mollm.db'}"

    @property
    def queue_url(self) -> str:
        return self.redis_url or f"unix://{self.home / 'valkey' / 'valkey.sock'}"

    @property
    def models_dir(self) -> Path:
        return (self.model_dir or self.home / "models").expanduser()

    @property
    def shared_url(self) -> str:
        """The object store that all hosts share; "" where they share a directory, or nothing."""
        return self.shared if "://" in self.shared else ""

    @property
    def shared_dir(self) -> Path:
        """What all hosts see, or the home."""
        return Path(self.shared).expanduser() if self.shared and not self.shared_url else self.home

    @property
    def encoder_dir(self) -> Path:
        """Where the text encoder lies, among the models or anywhere."""
        return self.models_dir / Path(self.encoder).expanduser()

    @property
    def versions_dir(self) -> Path:
        """Where versions' files lie on this host."""
        return self.shared_dir / "versions"

    def label_studio_unset(self) -> list[str]:
        """The environment variables that a worker needs and that are not set."""
        found = {"LABEL_STUDIO_URL": self.label_studio_url, "LABEL_STUDIO_API_KEY": self.label_studio_api_key}
        return [name for name, value in found.items() if not value]

    def running_backend(self) -> str:
        """The URL of this home's last `mollm up` (its port may differ from `port`); "" if there was none."""
        noted = _note(self.home)
        return noted.read_text(encoding="utf-8").strip() if noted.is_file() else ""

    def panel_config(self) -> PanelConfig:
        """The panel as set, or the default one. Raises ConfigError."""
        return panels.load(self.panel, self.home)

    def loop_config(self) -> LoopConfig:
        return LoopConfig(refit_every=self.refit_every, batch_size=self.batch_size, encoder=self.encoder)


def load(home: Path | None = None) -> Settings:
    """Read the settings. The first call creates the home (0700) and its secrets (0600). `home` overrides MOLLM_HOME.

    Values that the environment does not set are read from `mollm.env` in the home, then from the files of
    `secrets_dir`; where none names a Label Studio, it is the demo's that runs in this home.
    Raises ConfigError that names the setting and what is wrong with it.
    """
    try:
        given = Settings()
        home = (home or _home(given)).expanduser().resolve()
        first = _read(home / FILE, given.secrets_dir)
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            missing = [name for name in SECRETS if not getattr(first, name)]
            if first.shared_url and missing:
                raise ConfigError(
                    f"MOLLM_SHARED is an object store, which holds no secrets: set MOLLM_{missing[0].upper()} to the "
                    "same value on all hosts, in the environment or as a file in MOLLM_SECRETS_DIR."
                )
            common = first.shared_dir if first.shared and not first.shared_url else home  # of all hosts the same
            common.mkdir(parents=True, exist_ok=True, mode=0o700)
            unset = {name: SecretStr(_secret(common, name)) for name in missing}
        except OSError as error:
            raise ConfigError(f"The home {home} cannot be used: {disk.told(error) or error}") from None
        return first.model_copy(update={"home": home} | unset | _demo(first, home))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigError(f"The setting {'.'.join(map(str, wrong['loc']))} cannot be used: {wrong['msg']}.") from None


def _home(given: Settings) -> Path:
    """The home that is set. A host without one of its own, whose store and queue are elsewhere, works in what is
    shared."""
    elsewhere = given.shared and not given.shared_url and given.database_url and given.redis_url
    if "home" not in given.model_fields_set and elsewhere:
        return given.shared_dir
    return given.home


def _read(file: Path, directory: Path) -> Settings:
    """The settings, with what stands in the home's file and in a directory of secrets, where there is one."""
    try:
        return Settings(_env_file=file, _secrets_dir=directory if directory.is_dir() else None)
    except SettingsError as error:
        why = error.__cause__ or error
        raise ConfigError(f"The settings cannot be read ({why}): let user {os.getuid()} read them.") from None


def keep(home: Path, name: str, value: str) -> Path:
    """Write a setting into the home's file, in place of what it said before. Returns the file."""
    path = home / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in lines if line.partition("=")[0].strip() != name]
    part = path.with_name(f".{FILE}.{os.getpid()}")
    part.touch(mode=0o600)  # the file may hold a token
    part.write_text("".join(f"{line}\n" for line in [*kept, f"{name}={value}"]), encoding="utf-8")
    part.replace(path)
    return path


def password_file(home: Path) -> Path:
    """Where the generated password of the backend's login lies; `home` or what is shared."""
    return home / "secrets" / "basic_auth_password"


def _demo(given: Settings, home: Path) -> dict[str, object]:
    """Address and token of the demo's Label Studio, as far as they are not set. Nothing where no demo runs, or where
    another address is set: the token is for no other server.
    """
    try:
        told = json.loads((home / DEMO_FILE).read_text(encoding="utf-8"))
        url, token = str(told["label_studio_url"]), str(told["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if given.label_studio_url.rstrip("/") not in ("", url.rstrip("/")):
        return {}
    found = {"label_studio_url": url, "label_studio_api_key": SecretStr(token)}
    return {name: value for name, value in found.items() if not getattr(given, name)}


def note_backend(home: Path, url: str) -> None:
    """Store the backend's URL in the home, for the other commands."""
    _note(home).parent.mkdir(exist_ok=True, mode=0o700)
    _note(home).write_text(url, encoding="utf-8")


def _note(home: Path) -> Path:
    return home / "run" / "backend-url"


def _secret(home: Path, name: str) -> str:
    """The secret in `home/secrets/name`. Created atomically, so that two processes read the same."""
    directory = home / "secrets"
    directory.mkdir(exist_ok=True, mode=0o700)
    path = directory / name
    if not path.exists():
        part = directory / f".{name}.{os.getpid()}"
        try:
            part.touch(mode=0o600)
            part.write_text(secrets.token_urlsafe(24), encoding="ascii")
            path.hardlink_to(part)
        except FileExistsError:
            pass  # another process was first: its secret is used
        finally:
            part.unlink(missing_ok=True)
    found = path.read_text(encoding="ascii").strip()
    if not found:
        raise ConfigError(f"{path} is empty: remove it, and a new secret is made at the next start.")
    return found
