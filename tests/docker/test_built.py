"""The built images at work: started from their roots, read-only and without privileges, on real parts.

PostgreSQL, Redis and Label Studio run on this machine; migration, web part and worker are what the images hold. Build
them first: make images ENGINE=buildah. `make test-docker` does both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, projects, versions

from ..conftest import absent, heavy_home
from ..faults.installation import CONFIG, all_predicted, result, until, write_panel
from ..postgres import Postgres
from ..real_label_studio import TOKEN, executable, free_port, label_studio
from .roots import Image, built, running, stop

TASKS, LABELLED, LONG = 300, 20, 1200.0  # seconds; bounds a hang
USER = 1000  # of the images
SAYS = {"meow": "cat", "woof": "dog", "moo": "cow"}
ENCODER = "all-MiniLM-L6-v2"
WEB_MB = 400
pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, Image]]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("buildah", "unshare", "redis-server"))):
        absent("needs root, buildah, unshare and redis-server")
    with ExitStack() as stack:
        try:
            yield {name: stack.enter_context(built(name)) for name in ("web", "worker")}
        except LookupError as error:
            absent(str(error))


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """A real Redis on a free port, which keeps nothing."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with running(command, directory / "redis.log"):
        yield f"redis://127.0.0.1:{port}/0"


class Host:
    """What a container host gives to each part: volumes, settings, and secrets as files."""

    def __init__(self, directory: Path, settings: dict[str, str], secrets: dict[str, str]) -> None:
        self.directory, self.settings = directory, settings
        self.volumes: dict[str | Path, str | Path] = {}
        for name, place in (("data", "/data"), ("secrets", "/run/secrets"), ("panel", "/panel")):
            (directory / name).mkdir(exist_ok=True)
            self.volumes[directory / name] = place
        for name, value in secrets.items():
            (directory / "secrets" / name).write_text(value)
        shutil.chown(directory / "data", USER, USER)
        encoder = heavy_home() / "models" / ENCODER
        if not encoder.exists():
            absent("the encoder is not there: mollm prepare --models-only")
        self.volumes[encoder] = f"/data/models/{ENCODER}"
        (directory / "data" / "models").mkdir(exist_ok=True)
        shutil.chown(directory / "data" / "models", USER, USER)

    def run(self, image: Image, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = image.command(list(words), self.settings | more, self.volumes)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG)

    def start(self, image: Image, name: str, words: list[str] | None = None) -> ExitStack:
        """What the image starts by itself, or `words`."""
        stack = ExitStack()
        command = image.command(words or image.config["Cmd"], self.settings, self.volumes)
        self.process = stack.enter_context(running(command, self.directory / f"{name}.log"))
        return stack

    def wait_until_well(self, image: Image, name: str, process: subprocess.Popen[bytes]) -> None:
        """Until the image's own health check says so."""
        kind, *check = image.config["Healthcheck"]["Test"]
        assert kind == "CMD"

        def well() -> bool:
            assert process.poll() is None, self.log(name)
            return self.run(image, *check).returncode == 0

        until(well, LONG, every=1.0)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-3000:]


def inside(url: str, host: Host) -> str:
    """A database's URL as the parts see it: the directory of its socket is a volume."""
    found = sa.make_url(url)
    directory = str(found.query.get("host", ""))
    if directory.startswith("/"):
        Path(directory).chmod(0o755)  # the socket in it is open to all; the data is not
        host.volumes[directory] = "/run/postgresql"
        found = found.update_query_dict({"host": "/run/postgresql"})
    return found.render_as_string(hide_password=False)


def test_the_web_image_is_small_and_holds_nothing_that_computes(images: dict[str, Image]) -> None:
    megabytes = {name: image.size() / 1e6 for name, image in images.items()}
    print(f"web {megabytes['web']:.0f} MB, worker {megabytes['worker']:.0f} MB")
    assert megabytes["web"] < WEB_MB
    packages = next((images["web"].root / "opt/mollm/lib").glob("python*/site-packages"))
    assert not {"torch", "scipy", "sklearn", "pandas", "cv2", "pip"} & {path.name for path in packages.iterdir()}


def test_the_images_user_may_write_to_its_volume_and_to_nothing_else(images: dict[str, Image], tmp_path: Path) -> None:
    host = Host(tmp_path, {}, {})
    for image in images.values():
        assert host.run(image, "id", "-u").stdout.strip() == str(USER)
        assert host.run(image, "sh", "-c", "echo x > /data/x && echo x > /tmp/x && cat /tmp/x").stdout.strip() == "x"
        for place in ("/x", "/opt/mollm/x", "/etc/x", "/run/secrets/x", "/var/x"):
            assert host.run(image, "sh", "-c", f"echo x > {place}").returncode, place


def test_web_and_worker_read_a_recording_train_and_publish(
    images: dict[str, Image], postgres: Postgres, tmp_path: Path
) -> None:
    if not executable().exists():
        absent("Label Studio is not installed: mollm prepare")
    web, worker, port = images["web"], images["worker"], free_port()
    panel, texts = write_panel(tmp_path, TASKS)
    with (
        postgres.database() as database,
        redis_server(tmp_path) as queue,
        label_studio(tmp_path / "studio") as studio,
        closing(LabelStudioClient(studio.url, TOKEN)) as client,
    ):
        settings = {
            "REDIS_URL": queue, "LABEL_STUDIO_URL": studio.url, "MOLLM_PANEL": "/panel/panel.toml",
            "MOLLM_BACKEND_URL": f"http://127.0.0.1:{port}", "MOLLM_PORT": str(port), "MOLLM_SWEEP_SECONDS": "2",
            "MOLLM_REFIT_EVERY": "10",
        }  # fmt: skip
        secrets = {"LABEL_STUDIO_API_KEY": TOKEN, "MOLLM_BASIC_AUTH_PASSWORD": "pass", "MOLLM_WEBHOOK_SECRET": "hook"}
        host = Host(tmp_path, settings, secrets)
        (tmp_path / "secrets" / "DATABASE_URL").write_text(inside(database, host))
        shutil.move(tmp_path / "recording", tmp_path / "panel" / "recording")
        (tmp_path / "panel" / "panel.toml").write_text(panel.read_text().replace(str(tmp_path), "/panel"))

        migrated = host.run(web, "mollm", "migrate")
        assert migrated.returncode == 0, migrated.stderr
        with host.start(web, "web"):
            serving = host.process
            host.wait_until_well(web, "web", serving)
            with host.start(worker, "worker"), closing(Store(database)) as store:
                working = host.process
                project = client.create_project("animals", CONFIG)
                ids = client.import_tasks(project, [{"text": text} for text in texts])
                started = time.monotonic()
                connected = host.run(worker, "mollm", "connect", str(project))
                assert connected.returncode == 0, connected.stderr + host.log("web")

                def done(met: Callable[[], bool]) -> Callable[[], bool]:
                    def look() -> bool:
                        assert working.poll() is None, host.log("worker")
                        assert serving.poll() is None, host.log("web")
                        return met()

                    return look

                until(done(lambda: projects.get(store, project).published_version is not None), LONG, every=0.5)
                until(done(lambda: all_predicted(store, project)), LONG, every=0.5)
                print(f"{TASKS} texts read, trained, published: {time.monotonic() - started:.0f} s after connect")
                first = projects.get(store, project).published_version
                for task, text in zip(ids[:LABELLED], texts, strict=False):
                    client.submit(task, result(SAYS[text.split()[-1]]))
                until(done(lambda: projects.get(store, project).published_version != first), LONG, every=0.5)
                found = versions.find(store, project, projects.get(store, project).published_version)
                assert found is not None
                batch = projects.get(store, project).batch_version
                assert batch is not None
                wanted = {entry.task_id for entry in batches.entries(store, project, batch)}
                until(done(lambda: client.versions_of(project, sorted(wanted)).keys() == wanted), LONG, every=0.5)

                asked = {"tasks": [{"id": ids[-1], "data": {"text": texts[-1]}}], "project": f"{project}.1"}
                url = settings["MOLLM_BACKEND_URL"]
                said = httpx.post(f"{url}/predict", json=asked, auth=("mollm", "pass"), timeout=60)
                assert said.json()["results"][0]["result"]
                ready = httpx.get(f"{url}/ready", timeout=60)
                assert ready.status_code == 200, ready.text
                assert ready.json()["worker_beat_seconds"] < 60
                doctor = host.run(worker, "mollm", "doctor", str(project))
                assert doctor.returncode == 0, doctor.stdout
                assert TOKEN not in host.log("worker") + host.log("web")
                assert stop(working) == 0, host.log("worker")
            assert stop(serving) == 0, host.log("web")


def test_everything_in_one_container_answers_and_ends(images: dict[str, Image], tmp_path: Path) -> None:
    port = free_port()
    host = Host(tmp_path, {"MOLLM_PORT": str(port), "MOLLM_PANEL": "/panel/panel.toml"}, {"LABEL_STUDIO_API_KEY": "x"})
    write_panel(tmp_path / "panel", 30)
    text = (tmp_path / "panel" / "panel.toml").read_text()
    (tmp_path / "panel" / "panel.toml").write_text(text.replace(str(tmp_path), ""))
    host.settings["LABEL_STUDIO_URL"] = "http://127.0.0.1:9"
    with host.start(images["worker"], "up", ["mollm", "up"]):
        up = host.process

        def answers() -> bool:
            assert up.poll() is None, host.log("up")
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        until(answers, LONG, every=0.5)
        stop(up, 60.0)
        assert "all ended" in host.log("up")
    assert Settings(home=tmp_path / "data").store_url.removeprefix("sqlite:///") == str(tmp_path / "data" / "mollm.db")
    assert (tmp_path / "data" / "mollm.db").stat().st_uid == USER
