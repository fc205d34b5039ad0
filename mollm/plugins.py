"""What can be added from outside: one file in a room's folder, or an entry point of an installed package.

A room is a package and a group of entry points. What does not fit is refused by name with a reason, and stops nothing
else: a `RefusedWarning` when all are listed, a ConfigError when it is asked for.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from mollm.errors import ConfigError

T = TypeVar("T")

EXTRAS = {
    "httpx": "openai", "tenacity": "openai", "torch": "torch", "transformers": "torch", "xgboost": "lab",
    "matplotlib": "lab",
}  # fmt: skip
"""The extra of pyproject.toml that brings a package which the core can do without."""


class RefusedWarning(UserWarning):
    """A file or an entry point does not fit its room."""


@dataclass(frozen=True)
class Refused:
    """Why something cannot be used; `extra` is what would have to be installed for it ("": it is broken)."""

    reason: str
    extra: str = ""


@dataclass(frozen=True)
class Room(Generic[T]):
    """A folder of files that each give one `what` under the file's name.

    `fits(name, thing)` picks it out of a module (or takes what an entry point gives); None: nothing of the kind.
    It raises ConfigError with the reason where it does not fit. With `parts`, a file may give nothing.
    """

    package: str
    group: str
    what: str
    fits: Callable[[str, object], T | None]
    parts: bool = False

    def found(self) -> dict[str, T]:
        """All that fit, by name. Warns about what is broken; what lacks an extra is left out without a word."""
        loaded = {name: _load(self, name) for name in sorted(_sources(self))}
        for name, one in loaded.items():
            if isinstance(one, Refused) and not one.extra:
                warnings.warn(f"{self.what} {name!r} is left out: {one.reason}.", RefusedWarning, stacklevel=2)
        return {name: one for name, one in loaded.items() if one is not None and not isinstance(one, Refused)}

    def refused(self) -> dict[str, str]:
        """Name to reason of all that cannot be used, for a command to show."""
        loaded = {name: _load(self, name) for name in sorted(_sources(self))}
        return {name: one.reason for name, one in loaded.items() if isinstance(one, Refused)}

    def get(self, name: str) -> T:
        """The one of that name; no other is loaded. Raises ConfigError that says why there is none."""
        one = _load(self, name) if name in _sources(self) else None
        if isinstance(one, Refused):
            raise ConfigError(f"The {self.what} {name!r} cannot be used: {one.reason}.")
        if one is None:
            raise ConfigError(f"There is no {self.what} {name!r}: choose one of {', '.join(self.found())}.")
        fitting: T = one
        return fitting


def a_class(base: Any, attribute: str, *methods: str) -> Callable[[str, object], Any]:
    """For rooms of classes: a complete subclass of `base`, named by `attribute`, whose `methods` are called as its."""

    def fits(name: str, thing: object) -> object:
        if isinstance(thing, ModuleType):
            here = [kind for kind in vars(thing).values() if isinstance(kind, type) and issubclass(kind, base)]
            here = [kind for kind in here if kind.__module__ == thing.__name__ and attribute in vars(kind)]
            if not here:
                return None
            thing = next((kind for kind in here if getattr(kind, attribute) == name), here[0])
        if not (isinstance(thing, type) and issubclass(thing, base)):
            raise ConfigError(f"it is no subclass of {base.__name__}")
        if getattr(thing, attribute, None) != name:
            raise ConfigError(f"its class must say `{attribute} = {name!r}`")
        if inspect.isabstract(thing):
            raise ConfigError(f"its class lacks {', '.join(sorted(getattr(thing, '__abstractmethods__', ())))}")
        for method in methods:
            takes(getattr(thing, method), getattr(base, method))
        return thing

    return fits


def takes(function: Callable[..., Any], like: Callable[..., Any]) -> None:
    """Raises ConfigError unless `function` can be called with the arguments of `like`."""
    wanted = inspect.signature(like).parameters.values()
    by_place = [one.name for one in wanted if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    by_name = [one.name for one in wanted if one.kind is one.KEYWORD_ONLY]
    try:
        inspect.signature(function).bind(*by_place, **dict.fromkeys(by_name))
    except (TypeError, ValueError) as why:
        raise ConfigError(f"`{function.__name__}` must take ({', '.join(by_place + by_name)}): {why}") from None


def optional(module: str, user: str) -> Any:
    """Import a package that the core can do without. Raises ConfigError that says what to install for `user`."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise ConfigError(f"{user} needs {_extra_of(missing)[1]}.") from None


def _extra_of(missing: ModuleNotFoundError) -> tuple[str, str]:
    """The extra that brings a missing package ("": none does), and what to say."""
    package = (missing.name or "").partition(".")[0]
    extra = EXTRAS.get(package, "")
    return extra, f"{package}: pip install 'mollm[{extra}]'" if extra else f"{package}, which is not installed"


@cache
def _sources(room: Room[Any]) -> dict[str, str | EntryPoint]:
    """Name to the module's full name, or to the entry point. Files that start with `_` are nobody's business."""
    folder = importlib.import_module(room.package).__path__
    names = [module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_")]
    found: dict[str, str | EntryPoint] = {name: f"{room.package}.{name}" for name in names}
    for point in entry_points(group=room.group):
        if found.setdefault(point.name, point) is not point:
            line = f"{room.what} {point.name!r} of {point.value} is left out: that name is taken."
            warnings.warn(line, RefusedWarning, stacklevel=3)
    return found


@cache
def _load(room: Room[T], name: str) -> T | Refused | None:
    source = _sources(room)[name]
    try:
        thing = importlib.import_module(source) if isinstance(source, str) else source.load()
        fitting = room.fits(name, thing)
    except ConfigError as why:
        return Refused(str(why))
    except ModuleNotFoundError as missing:
        extra, line = _extra_of(missing)
        return Refused(f"it needs {line}", extra)
    except Exception as error:  # code of others may raise anything while it is imported
        return Refused(f"{type(error).__name__}: {error}")
    if fitting is None and not (room.parts and isinstance(source, str)):
        return Refused(f"there is no {room.what} in it")
    return fitting
