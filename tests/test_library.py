"""The library: arrays in, probabilities and batches out, as scikit-learn users expect; wrong input is a clear error."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError

import mollm
from mollm import InputError, MixtureClassifier, ModelFileError, MollmError, NotFittedError, select
from mollm.classifier.words import WordEncoder
from mollm.errors import ConfigError
from mollm.mixture import from_state
from mollm.mixture.auto import Auto
from mollm.records import Pool, Signals
from tests.synthetic import synthetic

DATA = synthetic(N=120)
Z, VOTES, GOLD = DATA.signals.label_probs, DATA.signals.votes, DATA.gold
Y = np.full(120, -1)
Y[DATA.targets(40).index] = DATA.targets(40).label
WORDS = np.array(["cat", "dog", "cow"])
TEXTS = [f"the {WORDS[gold]} number {n % 7}" for n, gold in enumerate(GOLD)]
PROBS = np.random.default_rng(0).dirichlet(np.ones(3), 120)


@pytest.mark.parametrize("name", ["estimator", "selection", "languages", "classifier.words", "classifier.windows"])
def test_the_examples_hold(name: str) -> None:
    done = doctest.testmod(importlib.import_module(f"mollm.{name}"))
    assert done.attempted
    assert not done.failed


def test_the_issues_lines() -> None:
    mixture = MixtureClassifier().fit(Z, Y, texts=TEXTS)
    probs = mixture.predict_proba(Z, texts=TEXTS)
    batch = select(probs, size=50, label_probs=Z)
    assert batch.dtype == np.int64
    assert len(set(batch.tolist())) == 50
    assert mixture.score(Z, GOLD, texts=TEXTS) > MixtureClassifier(encoder=None).fit(Z, Y).score(Z, GOLD)


def test_scikit_learn_s_conventions() -> None:
    mixture = MixtureClassifier(aggregator="logpool", random_state=3)
    assert repr(mixture) == "MixtureClassifier(aggregator='logpool', random_state=3)"
    assert clone(mixture.set_params(encoder=None)).get_params() == {
        "aggregator": "logpool", "encoder": None, "random_state": 3,
    }  # fmt: skip
    assert mixture.fit(Z, Y) is mixture
    assert mixture.classes_.tolist() == [0, 1, 2]
    assert mixture.n_annotators_ == 3
    assert not hasattr(clone(mixture), "mixture_")
    assert MixtureClassifier().fit(Z, Y).predict(Z).dtype == np.int64


def test_the_library_is_the_aggregator() -> None:
    names = tuple("012")
    signals = Signals(tuple(map(str, range(120))), names, names, Z, VOTES)
    seed = np.random.RandomState(0).randint(2**31)
    own = Auto().fit(Pool(signals, DATA.targets(40)), rng=np.random.default_rng(seed)).predict_proba(signals)
    np.testing.assert_array_equal(MixtureClassifier().fit(Z, Y, votes=VOTES).predict_proba(Z, votes=VOTES), own)


def test_names_of_classes_annotators_and_groups() -> None:
    classes = ["x", "y", "z"]
    named = [classes[c] if c >= 0 else (None, "")[n % 2] for n, c in enumerate(Y)]
    groups = [n % 50 for n in range(120)]
    by_name = MixtureClassifier().fit(Z, named, classes=classes, annotators=["a", "b", "c"], groups=groups)
    by_number = MixtureClassifier().fit(Z, Y, classes=classes, groups=groups)
    np.testing.assert_array_equal(by_name.predict_proba(Z), by_number.predict_proba(Z))
    assert by_name.predict(Z)[0] in classes
    assert by_name.mixture_.annotators_ == ("a", "b", "c")
    assert by_name.score(Z, [classes[c] for c in GOLD]) == by_name.score(Z, GOLD)


def test_silence_and_missing_texts() -> None:
    z, texts = Z.copy(), [*TEXTS]
    z[0], z[1, 1], texts[0], texts[1] = np.nan, 0.0, None, " "
    probs = MixtureClassifier().fit(z, Y, texts=texts).predict_proba(z, texts=texts)
    np.testing.assert_allclose(probs.sum(axis=1), 1)


@pytest.mark.parametrize("texts", [["the same"] * 120, ["..."] * 120, [""] * 120, [None] * 119 + ["one"]])
def test_texts_that_say_little(texts: list[str | None]) -> None:
    mixture = MixtureClassifier().fit(Z, Y, texts=texts)
    assert np.isfinite(mixture.predict_proba(Z[:2], texts=["new words", "..."])).all()


@pytest.mark.parametrize(
    ("z", "y"), [(Z[:1], [-1]), (Z[:, :1], Y), (Z[..., :1] * 0 + 1, np.minimum(Y, 0)), (Z, Y * 0 - 1)]
)
def test_small_pools_work(z: Any, y: Any) -> None:
    assert np.isfinite(MixtureClassifier().fit(z, y).predict_proba(z)).all()


class OwnEncoder:
    def embed(self, texts: list[str]) -> np.ndarray:
        return np.array([[len(text), text.count("o")] for text in texts], dtype=float)


@pytest.mark.parametrize("encoder", ["words", None, OwnEncoder()])
def test_save_and_load_give_equal_rows(tmp_path: Path, encoder: Any) -> None:
    mixture = MixtureClassifier(encoder=encoder).fit(
        Z, [WORDS[c] if c >= 0 else "" for c in Y], texts=TEXTS, classes=WORDS
    )
    mixture.save(tmp_path / "saved")
    mixture.save(tmp_path / "saved")
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} == {".json", ".safetensors"}
    again = MixtureClassifier.load(tmp_path / "saved", encoder=encoder if isinstance(encoder, OwnEncoder) else None)
    np.testing.assert_array_equal(again.predict_proba(Z, texts=TEXTS), mixture.predict_proba(Z, texts=TEXTS))
    assert again.predict(Z).tolist() == mixture.predict(Z).tolist()
    assert again.explain() == mixture.explain()
    assert again.get_params() == mixture.get_params()


def test_saving_deletes_nothing_of_yours_and_loading_checks(tmp_path: Path) -> None:
    mixture = MixtureClassifier(encoder=OwnEncoder()).fit(Z, Y, texts=TEXTS)
    (tmp_path / "thesis.json").write_text("{}")
    with pytest.raises(ModelFileError, match="other things"):
        mixture.save(tmp_path)
    mixture.save(tmp_path / "new")
    with pytest.raises(ModelFileError, match="encoder of your own"):
        MixtureClassifier.load(tmp_path / "new")
    with pytest.raises(ModelFileError, match="missing"):
        MixtureClassifier.load(tmp_path / "nowhere")
    (tmp_path / "new" / "estimator.json").write_text('{"kind": "estimator", "facts": {}}')
    with pytest.raises(ModelFileError, match="'own' is missing"):
        MixtureClassifier.load(tmp_path / "new")


def but(array: np.ndarray, at: Any, value: float) -> np.ndarray:
    changed = array.copy()
    changed[at] = value
    return changed


FITS = {
    r"must be an array of numbers \(N, M, C\)": (["a", "b"], Y),
    r"has shape \(120, 3\), but must have \(N, M, C\)": (Z[:, 0], Y),
    "there are no items": (Z[:0], []),
    "there are no annotators": (Z[:, :0], Y),
    "there are no classes": (Z[..., :0], Y),
    "NaN in a part": (but(Z, (4, 1, 2), np.nan), Y),
    "negative or infinite": (but(Z, (4, 1, 2), -1), Y),
    "infinite value": (but(Z, (4, 1, 2), np.inf), Y),
    "a share above 1": (Z * 30, Y),
    r"y\[0\] is 3: it must be one of 0..2": (Z, but(Y, 0, 3)),
    r"y\[0\] is -2": (Z, but(Y, 0, -2)),
    r"y\[0\] is nan": (Z, but(Y.astype(float), 0, np.nan)),
    r"y\[0\] is 0.5": (Z, but(Y.astype(float), 0, 0.5)),
    r"y\[0\] is 'cat': give class numbers": (Z, ["cat"] * 120),
    "one label for each of the 120 items": (Z, Y[:5]),
    "but its shape is ": (Z, np.zeros((120, 2))),
}


@pytest.mark.parametrize("why", FITS)
def test_a_fit_on_what_makes_no_sense_is_one_clear_error(why: str) -> None:
    with pytest.raises(InputError, match=why) as raised:
        MixtureClassifier().fit(*FITS[why])
    assert isinstance(raised.value, ValueError)


OPTIONS: dict[str, dict[str, Any]] = {
    "`texts` must have one entry": {"texts": ["one"]},
    "entry for each of the 120": {"texts": "one"},
    r"texts\[0\] is 7": {"texts": [7] * 120},
    "`groups` must have one entry": {"groups": [1, 2]},
    "`annotators` must be 3 different names": {"annotators": ["a", "a", "b"]},
    "`classes` must be 3 different names": {"classes": ["a", "b"]},
    "not one of the classes": {"classes": ["a", "b", "c"], "y": ["d"] * 120},
    "`votes` has shape": {"votes": VOTES[:, :2]},
    "There is no aggregator 'best'": {"aggregator": "best"},
    "is none of 'words', None": {"encoder": "bert"},
}


@pytest.mark.parametrize("why", OPTIONS)
def test_options_that_make_no_sense_are_one_clear_error(why: str) -> None:
    given = {"y": Y} | OPTIONS[why]
    setting = {name: given.pop(name) for name in ("aggregator", "encoder") if name in given}
    with pytest.raises((InputError, ConfigError), match=why):
        MixtureClassifier(**setting).fit(Z, **given)


def test_predicting_what_was_not_fitted_is_one_clear_error() -> None:
    with pytest.raises(NotFittedError, match="call fit first") as raised:
        MixtureClassifier().predict_proba(Z)
    assert isinstance(raised.value, SklearnNotFittedError)
    fitted = MixtureClassifier(aggregator="logpool").fit(Z, Y)
    for other in (Z[:, :2], Z[..., :2]):
        with pytest.raises(InputError, match=r"but must have \(N, 3, 3\)"):
            fitted.predict(other)
    with pytest.raises(InputError, match="labels no item"):
        fitted.score(Z, Y * 0 - 1)

    class Crooked:
        def embed(self, texts: list[str]) -> np.ndarray:
            return np.full((1, 2), np.nan)

    with pytest.raises(InputError, match=r"encoder.embed.* must have \(120, D\)"):
        MixtureClassifier(encoder=Crooked()).fit(Z, Y, texts=TEXTS)
    own = OwnEncoder()
    fitted = MixtureClassifier(encoder=own).fit(Z, Y, texts=TEXTS)
    own.embed = lambda texts: np.ones((len(texts), 5))  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"must have \(120, 2\)"):
        fitted.predict_proba(Z, texts=TEXTS)
    with pytest.raises(NotFittedError, match="word encoder"):
        WordEncoder().embed(["a"])


SELECTS: dict[str, dict[str, Any]] = {
    r"must have \(N, C\)": {"probs": [0.5, 0.5]},
    "there are no items": {"probs": PROBS[:0]},
    "sum to 1": {"probs": PROBS * 2},
    "`probs` must be finite": {"probs": but(PROBS, 3, np.nan)},
    "none below 0": {"probs": but(PROBS, (3, 0), -1)},
    "`size` is -1": {"size": -1},
    "`size` is 1.5": {"size": 1.5},
    "`label_probs` has shape": {"label_probs": Z[:5]},
    r"`classifier` has shape .* must have \(120, 3\)": {"classifier": np.full((120, 2), 0.5)},
    "`embeddings` has shape": {"embeddings": np.zeros((5, 2))},
    "`embeddings` must be finite": {"embeddings": np.full((120, 2), np.nan)},
    "`labelled` names item -1": {"labelled": [-1]},
    "indices or a mask": {"labelled": [0.5]},
    "There is no query strategy 'luck'": {"strategy": "luck"},
}


@pytest.mark.parametrize("why", SELECTS)
def test_a_selection_of_what_makes_no_sense_is_one_clear_error(why: str) -> None:
    given = {"probs": PROBS, "size": 5} | SELECTS[why]
    with pytest.raises((InputError, ConfigError), match=why):
        select(**given)


def test_only_open_items_are_chosen() -> None:
    assert set(select(PROBS, 500, labelled=Y >= 0).tolist()) == set(np.flatnonzero(Y < 0).tolist())
    assert set(select(PROBS, 500, labelled=[2], classifier=PROBS, embeddings=PROBS).tolist()) == {
        *range(len(PROBS))
    } - {2}
    assert select(PROBS, 0).tolist() == []


def test_the_records_are_there_and_nothing_heavy_comes_with_them() -> None:
    assert all(hasattr(mollm, name) for name in mollm.__all__)
    assert set(mollm.__all__) <= set(dir(mollm))
    with pytest.raises(AttributeError, match="nothing"):
        _ = mollm.nothing
    look = "import sys; from mollm import Signals, LabelSet, InputError; import mollm.states; " \
           "print({'sklearn', 'scipy', 'torch', 'pydantic', 'xgboost'} & set(sys.modules))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_aggregator_s_state_is_read_by_anyone(tmp_path: Path) -> None:
    mixture = MixtureClassifier(encoder=None).fit(Z, Y)
    mixture.save(tmp_path / "m")
    assert isinstance(from_state(mollm.states.load(tmp_path / "m")["mixture"]), Auto)
    assert issubclass(ModelFileError, MollmError)
