"""Models by their id on a hub: fetched once, safetensors alone, refused with one clear line. A real hub in small."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from mollm.annotators import open_annotator
from mollm.config import AnnotatorConfig
from mollm.errors import ModelFileError
from mollm.records import LabelSet
from mollm_backend import packages
from mollm_backend.hub import HubModel
from mollm_backend.supervisor import fetch

from ..annotators.tiny_model import make_tiny_model
from .hub_server import Hub, serve

pytestmark = pytest.mark.real_llm


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    (directory / "modeling_evil.py").write_text("raise SystemExit")
    (directory / "pytorch_model.bin").write_bytes(b"a pickle")
    (directory / "consolidated.safetensors").write_bytes(b"the same weights")
    return directory


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    import huggingface_hub.constants as constants

    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"a pickle")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    packed = tmp_path / "packed"
    packed.mkdir()
    for name in (
        "one.gguf",
        "two.gguf",
        "big-00001-of-00002.gguf",
        "big-00002-of-00002.gguf",
        "cut-00001-of-00002.gguf",
    ):
        (packed / name).write_bytes(name.encode())
    with serve({"org/tiny": tiny, "org/pickled": pickled, "org/packed": packed}) as (address, handler):
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield handler


def fetched(name: str, home: Path) -> tuple[Path, list[str]]:
    told: list[str] = []
    return packages.ensure_model(name, home, told.append), told


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name", HubModel("org/name")),
        ("org/name@v1", HubModel("org/name", "v1")),
        ("smollm2-135m-instruct", None),
        ("/srv/models/qwen", None),
        ("~/models/qwen", None),
        ("a/b/c", None),
        ("org/name/file-Q4_K_M.gguf", HubModel("org/name", "", "file-Q4_K_M.gguf")),
        ("org/name/in/file.gguf@v1", HubModel("org/name", "v1", "in/file.gguf")),
        ("/srv/org/file.gguf", None),
        ("../org/file.gguf", None),
    ],
)
def test_what_is_an_id(name: str, expected: HubModel | None) -> None:
    assert HubModel.of(name) == expected


def test_a_directory_that_is_there_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert HubModel.of("org/name") is None


def test_it_is_fetched_once_and_without_code(hub: type[Hub], tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert not packages.is_ready("org/tiny", home)
    directory, told = fetched("org/tiny", home)
    names = {path.name for path in directory.iterdir()}
    assert {"config.json", "model.safetensors"} <= names
    assert not names & {"modeling_evil.py", "pytorch_model.bin", "consolidated.safetensors"}
    assert told[0].startswith("fetching org/tiny (")
    assert told[-1] == "org/tiny: ready"
    before = len(hub.asked)
    assert fetched("org/tiny", home) == (directory, [])
    assert len(hub.asked) == before


def test_the_panel_opens_it_at_its_revision(hub: type[Hub], tmp_path: Path) -> None:
    config = AnnotatorConfig(name="tiny", model="org/tiny", revision="v1", prompt="plain")
    assert packages.model_of(config) == "org/tiny@v1"
    directory, _ = fetched(packages.model_of(config), tmp_path / "home")
    assert directory == tmp_path / "home" / "org" / "tiny@v1"
    annotator = open_annotator(config, LabelSet(("sports", "money")), "Name the topic.", (), tmp_path / "home")
    (answer,) = annotator.annotate(["a goal in the last minute"])
    assert answer.label_probs.sum() == pytest.approx(1)


def test_offline_takes_it_from_the_cache(hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    fetched("org/tiny", tmp_path / "home")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.asked)
    fetched("org/tiny", tmp_path / "another home")
    assert len(hub.asked) == before
    with pytest.raises(ModelFileError, match="org/other is not in the cache, and HF_HUB_OFFLINE is set"):
        fetched("org/other", tmp_path / "home")


def test_what_cannot_be_fetched_is_said_in_one_line(hub: type[Hub], tmp_path: Path) -> None:
    home = tmp_path / "home"
    hub.gated = {"org/tiny"}
    for name, said in {
        "org/none": "There is no model org/none on http://.*: correct the name, or set HF_TOKEN",
        "org/tiny": "org/tiny is gated: accept its terms on http://.*/org/tiny, then set HF_TOKEN",
        "org/pickled": "org/pickled has no safetensors weights",
        "org/pickled@no-such": "org/pickled has no revision 'no-such'",
    }.items():
        with pytest.raises(ModelFileError, match=said):
            fetched(name, home)
        assert not packages.is_ready(name, home)


def test_a_token_opens_a_gated_model(hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = {"org/tiny"}
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    _, told = fetched("org/tiny", tmp_path / "home")
    assert "hf_secret" not in " ".join(told)


def test_a_disk_too_small_is_said_before_anything_is_fetched(hub: type[Hub], tmp_path: Path) -> None:
    hub.sizes = {"model.safetensors": 10**16}
    with pytest.raises(ModelFileError, match=r"org/tiny needs 10000000\.0 GB and .* free: make room, or set HF_HOME"):
        fetched("org/tiny", tmp_path / "home")
    assert not any("resolve" in line for line in hub.asked)


def test_a_hub_that_is_away(hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ModelFileError, match=r"http://127\.0\.0\.1:9 cannot be reached, and org/tiny is not in the cache"
    ):
        fetched("org/tiny", tmp_path / "home")


def test_the_others_go_on_without_it(hub: type[Hub], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.main("org/none", str(tmp_path / "home"))
    assert "The others go on without it." in capsys.readouterr().out
    with pytest.raises(SystemExit, match="There is no package named"):
        fetch.main("no-such-package", str(tmp_path / "home"), "needed")


def test_of_a_repository_of_gguf_files_one_is_fetched(hub: type[Hub], tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = AnnotatorConfig(name="a", runtime="llama_cpp", model="org/packed/one.gguf", revision="v1")
    name = packages.to_fetch(config)
    assert name == "org/packed/one.gguf@v1"
    directory, told = fetched(name, home)
    assert [path.name for path in directory.iterdir()] == ["one.gguf"]
    assert told[-1] == f"{name}: ready"
    assert packages.gguf_file(name, home).read_bytes() == b"one.gguf"
    with pytest.raises(ModelFileError, match=r"two\.gguf@v1 gives no GGUF file"):
        packages.gguf_file("org/packed/two.gguf@v1", home)
    assert not packages.is_ready("org/packed/two.gguf@v1", home)
    fetched("org/packed/two.gguf@v1", home)
    assert packages.is_ready("org/packed/two.gguf@v1", home)


def test_a_gguf_file_in_parts_is_whole_or_not_there(hub: type[Hub], tmp_path: Path) -> None:
    home = tmp_path / "home"
    directory, _ = fetched("org/packed/big-00001-of-00002.gguf", home)
    assert len(list(directory.iterdir())) == 2
    for name in ("org/packed/cut-00001-of-00002.gguf", "org/packed/none.gguf"):
        with pytest.raises(
            ModelFileError, match=r"org/packed has no file .*\.gguf \(see http://.*\): correct the name"
        ):
            fetched(name, home)


def test_a_disk_that_fills_up_on_the_way(hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def full(*_args: object, **_named: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(ModelFileError, match=r"The disk is full, so org/tiny could not be fetched .* it goes on where"):
        fetched("org/tiny", tmp_path / "home")
