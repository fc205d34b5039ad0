"""`MixtureClassifier`: the mixture as a scikit-learn estimator, for arrays of label probabilities and human labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.utils import check_random_state

from mollm import arrays, errors, states
from mollm.classifier.words import WordEncoder
from mollm.errors import ConfigError, InputError, ModelFileError
from mollm.mixture import Mixture, aggregator, from_state
from mollm.records import FittedState, FloatArray, Item, Pool

Texts = Sequence[str | None]


class NotFittedError(errors.NotFittedError, SklearnNotFittedError):  # type: ignore[misc]
    """`fit` comes first. It is mollm's error and scikit-learn's."""


class MixtureClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Fuses what M LLMs say of N items with the human labels there are into calibrated probabilities.

    `aggregator` is a name in `mollm.mixture.aggregators()`. `encoder` embeds the texts: "words" learns from the
    pool's own words, an object with `embed(texts) -> (N, D)` is any encoder of yours, None uses texts only to tell
    which items are the same. `random_state` is an int, a RandomState or None.

    Fitted: `classes_` (C,), `n_annotators_`, `mixture_` (the aggregator), `encoder_`.

    >>> label_probs = [[[0.9, 0.1], [0.6, 0.4]], [[0.2, 0.8], [0.3, 0.7]], [[0.8, 0.2], [np.nan, np.nan]]]
    >>> mixture = MixtureClassifier().fit(label_probs, ["ham", "", None], classes=["ham", "spam"])
    >>> mixture.predict(label_probs).tolist()
    ['ham', 'spam', 'ham']
    >>> mixture.predict_proba(label_probs).shape
    (3, 2)
    """

    def __init__(self, aggregator: str = "auto", encoder: object = "words", random_state: Any = 0) -> None:
        self.aggregator = aggregator
        self.encoder = encoder
        self.random_state = random_state

    def fit(
        self, label_probs: ArrayLike, y: ArrayLike, *, texts: Texts | None = None, votes: ArrayLike | None = None,
        groups: Sequence[object] | None = None, annotators: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
    ) -> Self:  # fmt: skip
        """Learn from the pool: all items, whether a human has labelled them or not.

        `label_probs` (N, M, C): each LLM's label distribution, a row of NaN where it is silent. `y` (N,): class
        numbers with -1, or names of `classes` with None or "", where no human has said. `texts` (N,): None where
        there is none. `votes` (N, M, C): the share of sampled answers (without them, what sampling would give).
        `groups` (N,): equal for items that are the same (without them, those of equal texts). Raises InputError.
        """
        signals = arrays.signals(label_probs, votes, annotators, classes)
        targets = arrays.targets(y, signals.N, signals.C, classes)
        read = arrays.texts(texts, signals.N)
        if groups is None:
            groups = [Item(str(n), text or None).group for n, text in enumerate(read or [""] * signals.N)]
        groups = tuple(map(str, arrays.one_an_item(groups, "groups", signals.N)))
        if not (self.encoder is None or self.encoder == WordEncoder.name or hasattr(self.encoder, "embed")):
            raise ConfigError(f"encoder={self.encoder!r} is none of 'words', None, an object with `embed(texts)`.")
        self.encoder_ = None if read is None else self.encoder
        if read is not None and self.encoder == WordEncoder.name:
            self.encoder_ = WordEncoder().fit([text for text in read if text])
        self.classes_ = np.arange(signals.C) if classes is None else np.array(signals.labels)
        self.n_annotators_ = signals.M
        self.n_dimensions_: int | None = None
        embeddings = self._embedded(read)
        self.n_dimensions_ = None if embeddings is None else embeddings.shape[1]
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        self.mixture_ = aggregator(self.aggregator)().fit(Pool(signals, targets, embeddings, groups), rng=rng)
        return self

    def predict_proba(
        self, label_probs: ArrayLike, *, texts: Texts | None = None, votes: ArrayLike | None = None
    ) -> FloatArray:
        """(N, C) calibrated probabilities in the order of `classes_`, for the pool or for new items.

        The same annotators in the same order as in `fit`. Texts are used where they were in `fit`, and may be left
        out. Raises InputError, NotFittedError.
        """
        fitted = self._fitted()
        shape = (None, self.n_annotators_, len(self.classes_))
        signals = arrays.signals(label_probs, votes, fitted.annotators_, fitted.labels_, shape)
        return fitted.predict_proba(signals, self._embedded(arrays.texts(texts, signals.N)))

    def predict(
        self, label_probs: ArrayLike, *, texts: Texts | None = None, votes: ArrayLike | None = None
    ) -> NDArray[np.generic]:
        """(N,) the likeliest of `classes_`."""
        best = self.predict_proba(label_probs, texts=texts, votes=votes).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def score(
        self, label_probs: ArrayLike, y: ArrayLike, *, texts: Texts | None = None, votes: ArrayLike | None = None
    ) -> float:
        """The accuracy on the items that `y` (as in `fit`) labels. Raises InputError where it labels none."""
        probs = self.predict_proba(label_probs, texts=texts, votes=votes)
        named = self.classes_.dtype.kind == "U"
        known = arrays.targets(y, len(probs), probs.shape[1], self._fitted().labels_ if named else None)
        if not known.H:
            raise InputError("`y` labels no item: there is nothing to score.")
        return float((probs[known.index].argmax(axis=1) == known.label).mean())

    def explain(self) -> str:
        """One line for people: what was fitted and on what evidence."""
        return self._fitted().explain()

    def save(self, directory: str | Path) -> None:
        """Write the fitted state as safetensors and JSON (no pickle); what was saved there before is replaced.

        An encoder of your own is not saved. Raises ModelFileError where `directory` holds anything else.
        """
        kept = {"mixture": self._fitted().state()}
        if isinstance(self.encoder_, WordEncoder):
            kept["encoder"] = self.encoder_.state()
        seed = int(self.random_state) if isinstance(self.random_state, int | np.integer) else None
        own = self.encoder_ is not None and "encoder" not in kept
        facts = {"aggregator": self.aggregator, "random_state": seed, "names": self.classes_.dtype.kind == "U",
                 "words": self.encoder == WordEncoder.name, "own": own, "dimensions": self.n_dimensions_}  # fmt: skip
        kept["estimator"] = FittedState("estimator", {}, facts)
        path = Path(directory).absolute()
        ours = {
            f"{name}{suffix}" for name in ("mixture", "encoder", "estimator") for suffix in (".safetensors", ".json")
        }
        if path.exists() and (path.is_file() or {one.name for one in path.iterdir()} - ours):
            raise ModelFileError(f"{path} holds other things, which would be deleted: name a new directory.")
        states.save(path, kept)

    @classmethod
    def load(cls, directory: str | Path, encoder: object = None) -> Self:
        """What `save` wrote: equal rows from `predict_proba`. `encoder`: your own again, where `fit` had one.

        Raises ModelFileError for files that are missing, damaged or something else's.
        """
        kept = states.load(Path(directory))
        try:
            facts: Mapping[str, Any] = kept["estimator"].facts
            own, words, seed = facts["own"], facts["words"], facts["random_state"]
            found = cls(facts["aggregator"], WordEncoder.name if words else encoder, seed)
            found.mixture_, found.n_dimensions_ = from_state(kept["mixture"]), facts["dimensions"]
            labels = found.mixture_.labels_
            found.classes_ = np.array(labels) if facts["names"] else np.arange(len(labels))
        except KeyError as missing:
            raise ModelFileError(f"{directory} holds no saved MixtureClassifier: {missing} is missing.") from None
        if own and not hasattr(encoder, "embed"):
            raise ModelFileError(f"{directory} was fitted with an encoder of your own: give it as `encoder=`.")
        found.encoder_ = WordEncoder.from_state(kept["encoder"]) if "encoder" in kept else (encoder if own else None)
        found.n_annotators_ = len(found.mixture_.annotators_)
        return found

    def _fitted(self) -> Mixture:
        if not hasattr(self, "mixture_"):
            raise NotFittedError("This MixtureClassifier has not been fitted: call fit first.")
        fitted: Mixture = self.mixture_
        return fitted

    def _embedded(self, texts: list[str] | None) -> FloatArray | None:
        """(N, D), a row of NaN where there is no text or the encoder knows nothing of it."""
        if self.encoder_ is None or texts is None:
            return None
        axes = {"N": len(texts), "D": self.n_dimensions_}
        E = arrays.floats(self.encoder_.embed(texts), "encoder.embed(texts)", axes, finite=True)
        silent = ~E.any(axis=1) | np.array([not text for text in texts])
        return np.where(silent[:, None], np.nan, E)
