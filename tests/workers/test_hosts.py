"""Several hosts on one store: what one of them wrote another reads, and other model files are refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import redis

from mollm import states
from mollm.errors import ConfigError, ModelFileError
from mollm.records import FittedState
from mollm_backend import jobs
from mollm_backend import settings as reading_settings
from mollm_backend.doctor import work
from mollm_backend.jobs import same_models
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, projects, tasks, versions
from mollm_backend.store.tasks import Task
from mollm_backend.work import queues, workers
from tests.backend.conftest import add_texts

from .test_workers import FAR, born

ALL = queues.QUEUES


def host(settings: Settings, name: str, **more: object) -> Settings:
    """Another host: a home of its own, and the rest as it is set."""
    home = settings.home / name
    home.mkdir()
    return settings.model_copy(update={"home": home, "database_url": settings.store_url} | more)


def model(settings: Settings, content: bytes) -> None:
    directory = settings.models_dir / settings.encoder
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize("what", ["a directory", "an object store"])
def test_a_version_of_one_host_predicts_on_another_that_has_an_empty_home(
    settings: Settings, store: Store, connection: redis.Redis, what: str
) -> None:
    there = settings.home / "shared"
    shared = str(there) if what == "a directory" else f"file://{there}"
    one, other, apart = (host(settings, name, shared=shared) for name in ("one", "two", "three"))
    add_texts(store, 40)
    projects.change(store, 7, options={"batch_size": 10, "loop": {"reserve": 10}})
    jobs.install(Runtime(one, store, connection))
    jobs.train(7)
    made = versions.newest(store, 7)
    assert made is not None
    assert made.facts["files"] == states.digest_of(there / "versions" / "7" / made.id)
    assert (one.home / "versions").exists() == (what == "an object store"), "a copy of what is in an object store"

    jobs.install(Runtime(other, store, connection))
    (known,) = (task for task in tasks.every(store, 7) if task.task_id == 1)
    tasks.upsert(store, 7, [Task(99, "h", known.text)])  # a text that the panel has read
    jobs.predict(7)
    assert 99 in versions.predicted(store, 7, made.id)

    assert (other.home / "versions" / "7" / made.id).exists() == (what == "an object store")

    # A host where that directory is not set says which setting it lacks.
    jobs.install(Runtime(apart.model_copy(update={"shared": ""}), store, connection))
    tasks.upsert(store, 7, [Task(100, "h", known.text)])
    jobs.predict(7)
    assert any("set MOLLM_SHARED" in row.line for row in events.newest(store, 5))


@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_a_version_file_that_is_not_as_it_was_written_is_told_and_fitted_again(
    settings: Settings, store: Store, connection: redis.Redis, how: str
) -> None:
    runtime = Runtime(settings, store, connection)
    jobs.install(runtime)
    add_texts(store, 40)
    projects.change(store, 7, options={"batch_size": 10, "loop": {"reserve": 10}})
    jobs.train(7)
    made = versions.newest(store, 7)
    assert made is not None
    file = settings.versions_dir / "7" / made.id / "mixture.safetensors"
    raw = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(raw[: len(raw) // 2] if how == "cut" else raw[:-1] + bytes([raw[-1] ^ 1]))
    (known,) = (task for task in tasks.every(store, 7) if task.task_id == 1)
    tasks.upsert(store, 7, [Task(99, "h", known.text)])
    jobs.predict(7)
    said = [row.line for row in events.newest(store, 5) if row.kind == "problem"]
    assert len(said) == 1
    assert f"{made.id} cannot predict new texts" in said[0]
    jobs.train(7)
    after = versions.newest(store, 7)
    assert after is not None
    assert after.id != made.id
    assert 99 in versions.predicted(store, 7, after.id)


def test_the_same_state_may_be_written_by_two_hosts(tmp_path: Path) -> None:
    state = {"head": FittedState("head", {"w": np.ones(3)}, {})}
    first = states.save(tmp_path / "v", state)
    (tmp_path / "v" / "pretrained").mkdir()
    assert states.save(tmp_path / "v", state) == first
    assert (tmp_path / "v" / "pretrained").is_dir(), "what was there already is left as it is"
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    with pytest.raises(ModelFileError, match="not as they were written"):
        states.load(tmp_path / "v", "another digest")


def test_other_model_files_are_refused_while_the_other_host_works(
    settings: Settings, store: Store, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = host(settings, "one"), host(settings, "two")
    model(one, b"weights" * 10)
    model(other, b"others!" * 10)
    with monkeypatch.context() as patch:
        patch.setattr(workers, "here", lambda: workers.host_of(FAR))
        same_models.check(Runtime(one, store, connection), ALL, ())
    worker = born(connection, FAR)
    mine = Runtime(other, store, connection)
    with pytest.raises(ConfigError, match=rf"all-MiniLM-L6-v2 on this host .* not those of {workers.host_of(FAR)}"):
        same_models.check(mine, ALL, ())
    same_models.check(mine, ["publish"], ())  # it reads no model
    shutil.copytree(one.models_dir, other.models_dir, dirs_exist_ok=True)
    same_models.check(mine, ALL, ())
    model(other, b"newer!!" * 10)
    worker.register_death()
    same_models.check(mine, ALL, ())  # nobody else works: these files hold now
    born(connection, workers.worker_name())
    monkeypatch.setattr(workers, "here", lambda: workers.host_of(FAR))
    with pytest.raises(ConfigError, match="copy them from there"):
        same_models.check(Runtime(one, store, connection), ALL, ())


def test_a_large_file_differs_wherever_it_differs_in_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_models, "WHOLE", 1000)
    monkeypatch.setattr(same_models, "PIECE", 16)
    content = bytearray(10_000)
    (tmp_path / "model.safetensors").write_bytes(content)
    before = same_models.fingerprint(tmp_path)
    assert before == same_models.fingerprint(tmp_path)
    content[-1] = 1
    (tmp_path / "model.safetensors").write_bytes(content)
    assert before != same_models.fingerprint(tmp_path)


def test_doctor_says_that_hosts_share_no_directory(store: Store, settings: Settings, connection: redis.Redis) -> None:
    born(connection, FAR)
    born(connection, workers.worker_name())
    found = {row.name: row.fix for row in work.examine(store, settings, projects.every(store))}
    assert "MOLLM_SHARED" in found["not-shared"]
    shared = settings.model_copy(update={"shared": settings.home})
    assert "not-shared" not in {row.name for row in work.examine(store, shared, projects.every(store))}


def test_hosts_have_the_same_secrets_and_need_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLLM_SHARED", str(tmp_path / "shared"))
    for name in ("MOLLM_WEBHOOK_SECRET", "MOLLM_BASIC_AUTH_PASSWORD", "BASIC_AUTH_PASS", "MOLLM_HOME"):
        monkeypatch.delenv(name, raising=False)
    one, other = (reading_settings.load(tmp_path / name) for name in ("one", "two"))
    assert one.webhook_secret == other.webhook_secret
    assert not (tmp_path / "one" / "secrets").exists()
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://x/y")
    monkeypatch.setenv("REDIS_URL", "redis://x")
    homeless = reading_settings.load()
    assert homeless.home == tmp_path / "shared"
    assert homeless.webhook_secret == one.webhook_secret
