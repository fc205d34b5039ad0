"""Models by their id on a hub (`org/name`): fetched into Hugging Face's own cache, linked among the models.

Only safetensors weights, configurations and tokenizers are fetched; no code of a model is. What the library knows holds
here too: HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE. A download that was interrupted goes on where it stopped.
A model is fetched once: to get a later state of a branch, give its revision.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mollm.errors import ConfigError, ModelFileError, MollmError

# What of a model is fetched. Weights in other formats may hold code (pickles) or would be fetched for nothing.
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
TWICE = ("consolidated*", "original/*")  # the same weights once more, in the layout of who made them
_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*?)(?:/([\w./-]+\.gguf))?(?:@([\w./-]+))?", re.ASCII)
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")  # how llama.cpp names the parts of a large model
EVERY = 10.0  # seconds between two lines of progress


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model's id, its revision (a branch, a tag or a commit; "" is the default branch), and which GGUF file of it is
    meant ("": its safetensors weights)."""

    id: str
    revision: str = ""
    file: str = ""

    @classmethod
    def of(cls, name: str) -> HubModel | None:
        """From `org/name` or `org/name/FILE.gguf`, with `@revision` or without; None of anything else, such as a file
        or a directory that is there."""
        found = _ID.fullmatch(name)
        if found is None or Path(name).expanduser().exists():
            return None
        return cls(found[1], found[3] or "", found[2] or "")

    def __str__(self) -> str:
        named = f"{self.id}/{self.file}" if self.file else self.id
        return f"{named}@{self.revision}" if self.revision else named

    @property
    def patterns(self) -> tuple[str, ...]:
        """The files to fetch; of a GGUF file that is one of several parts, all of them."""
        return (_PART.sub(r"-*-of-\1.gguf", self.file),) if self.file else FILES

    def link(self, models: Path) -> Path:
        """Its directory among the `models`."""
        return models / (f"{self.id}@{self.revision}" if self.revision else self.id)


def is_ready(model: HubModel, models: Path) -> bool:
    """Whether the model is linked, and its files are there (no network)."""
    return _is_whole(model, model.link(models))


def ensure(model: HubModel, models: Path, progress: Callable[[str], None]) -> Path:
    """The directory of a model, fetched if it is not there yet; `progress` takes a line.

    Raises ConfigError without the hub's library, ModelFileError, with what to do, where the model cannot be fetched.
    """
    link = model.link(models)
    if is_ready(model, models):
        return link
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ConfigError(f"{model}: models of a hub need `pip install mollm[torch]` ({error}).") from None
    endpoint = os.environ.get("HF_ENDPOINT") or huggingface_hub.constants.ENDPOINT
    try:
        size = _checked(huggingface_hub.HfApi(endpoint=endpoint), model) if not offline() else 0
        with _told(model, size, Path(huggingface_hub.constants.HF_HUB_CACHE), progress):
            found = huggingface_hub.snapshot_download(
                model.id, revision=model.revision or None, allow_patterns=list(model.patterns),
                ignore_patterns=list(TWICE), endpoint=endpoint, local_files_only=offline(), tqdm_class=_quiet(),
            )  # fmt: skip
    except errors.GatedRepoError:
        raise ModelFileError(
            f"{model} is gated: accept its terms on {endpoint}/{model.id}, then set HF_TOKEN to a token of that user."
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelFileError(f"{model.id} has no revision {model.revision!r} on {endpoint}: correct it.") from None
    except errors.RepositoryNotFoundError:
        raise ModelFileError(
            f"There is no model {model.id} on {endpoint}, or it is private: correct the name, or set HF_TOKEN."
        ) from None
    except errors.LocalEntryNotFoundError:
        raise ModelFileError(_unreachable(model, endpoint)) from None
    except MollmError:
        raise
    except Exception as error:  # broken lines, full disks: the library's HTTP package has no errors of a fixed name
        if getattr(error, "errno", None) == errno.ENOSPC:
            where = huggingface_hub.constants.HF_HUB_CACHE
            raise ModelFileError(
                f"The disk is full, so {model} could not be fetched into {where}: make room, or set HF_HOME to a "
                "larger disk, and start again: it goes on where it stopped."
            ) from None
        raise ModelFileError(f"{model} could not be fetched from {endpoint}: {error}. Start again to go on.") from None
    if model.file and not _is_whole(model, Path(found)):
        raise ModelFileError(f"{model.id} has no file {model.file} (see {endpoint}/{model.id}): correct the name.")
    if not model.file and not any(Path(found).glob("*.safetensors")):
        raise ModelFileError(f"{model} has no safetensors weights, and no others are loaded: choose another model.")
    _link(link, Path(found))
    progress(f"{model}: ready")
    return link


def _is_whole(model: HubModel, directory: Path) -> bool:
    if not model.file:
        return (directory / "config.json").is_file() and any(directory.glob("*.safetensors"))
    part = _PART.search(model.file)
    parts = 1 if part is None else len(list(directory.glob(model.patterns[0])))
    return (directory / model.file).is_file() and (part is None or parts == int(part[1]))


def offline() -> bool:
    """Whether the user has said that nothing may be fetched."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def _unreachable(model: HubModel, endpoint: str) -> str:
    if offline():
        return f"{model} is not in the cache, and HF_HUB_OFFLINE is set: unset it once, or copy the cache here."
    return (
        f"{endpoint} cannot be reached, and {model} is not in the cache: check the network, set HF_ENDPOINT to a "
        "mirror, or copy the model here and give its directory."
    )


def _checked(api: Any, model: HubModel) -> int:
    """The bytes to fetch, by what the hub says. Raises ModelFileError where they do not fit on the disk."""
    from fnmatch import fnmatch

    from huggingface_hub import constants, errors

    try:
        facts = api.model_info(model.id, revision=model.revision or None, files_metadata=True)
    except errors.HfHubHTTPError:
        raise
    except Exception as error:  # no connection: the library's HTTP package has no errors of a fixed name
        raise errors.LocalEntryNotFoundError(str(error)) from None
    files = [(file.rfilename, int(file.size or 0)) for file in facts.siblings or []]
    wanted = [
        size for name, size in files
        if any(fnmatch(name, one) for one in model.patterns) and not any(fnmatch(name, one) for one in TWICE)
    ]  # fmt: skip
    cache = Path(constants.HF_HUB_CACHE)
    there = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if sum(wanted) > free:
        raise ModelFileError(
            f"{model} needs {_gigabytes(sum(wanted))} and {there} has {_gigabytes(free)} free: make room, or set "
            "HF_HOME to a larger disk."
        )
    return sum(wanted)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


@contextmanager
def _told(model: HubModel, size: int, cache: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Say every ten seconds how much of the model is there."""
    folder, over = cache / f"models--{model.id.replace('/', '--')}" / "blobs", threading.Event()
    progress(f"fetching {model}" + (f" ({_gigabytes(size)})" if size else ""))

    def tell() -> None:
        while not over.wait(EVERY):
            there = sum(path.stat().st_size for path in folder.glob("*") if path.exists())
            progress(f"fetching {model}: {_gigabytes(there)} of {_gigabytes(size)}")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _quiet() -> Any:
    """The library's bar, switched off: a log is no place for it."""
    bar: Any = importlib.import_module("tqdm.auto").tqdm

    class Quiet(bar):  # type: ignore[misc]
        def __init__(self, *args: Any, **named: Any) -> None:
            named.pop("name", None)  # an option of the library's own bar
            super().__init__(*args, **(named | {"disable": True}))

    return Quiet


def _link(link: Path, target: Path) -> None:
    """Point `link` to the fetched model, at once."""
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.resolve(), target_is_directory=True)
    fresh.replace(link)
