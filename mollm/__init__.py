"""mollm: a mixture of small local LLMs that labels a project and learns from its people.

The core knows no server: it works on arrays, texts and recordings. Its story is `mollm.round.run`. As a library:

    from mollm import MixtureClassifier, select
    mixture = MixtureClassifier().fit(label_probs, y, texts=texts)     # (N, M, C), (N,) with -1, optional texts
    probs = mixture.predict_proba(label_probs, texts=texts)            # (N, C)
    batch = select(probs, size=50, label_probs=label_probs)            # indices, in order

Names are imported when they are asked for: a process that only needs the records loads no scikit-learn.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mollm.errors import ConfigError, InputError, ModelFileError, MollmError, NotFittedError
    from mollm.estimator import MixtureClassifier
    from mollm.records import FittedState, HumanLabel, Item, LabelSet, Signals, Targets
    from mollm.selection import select

_ROOM_OF = {
    "MixtureClassifier": "estimator", "select": "selection",
    "FittedState": "records", "HumanLabel": "records", "Item": "records", "LabelSet": "records",
    "Signals": "records", "Targets": "records",
    "ConfigError": "errors", "InputError": "errors", "ModelFileError": "errors", "MollmError": "errors",
    "NotFittedError": "errors",
}  # fmt: skip

__all__ = [
    "ConfigError", "FittedState", "HumanLabel", "InputError", "Item", "LabelSet", "MixtureClassifier",
    "ModelFileError", "MollmError", "NotFittedError", "Signals", "Targets", "select",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'mollm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mollm.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
