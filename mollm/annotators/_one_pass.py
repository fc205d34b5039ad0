"""Score texts in one pass, for every runtime: label orders, token trees, prior correction, expected votes.

A runtime only answers `Question`s: the log-probabilities of a few tokens after (prompt of one label order, text, path).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mollm.annotators import Answer, abstention
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorUnavailable
from mollm.prompts import Prompt, Shot, build_prompt, label_orders, load_template
from mollm.prompts.coding import Path, TokenTree, shares
from mollm.records import FloatArray, LabelSet
from mollm.signals import expected_votes, normalised, total_variation, without_prior

CONTENT_FREE = ("N/A", "[text]", "...")  # texts without content: they show prior and position bias (Zhao et al. 2021)
BIAS_BAR = 0.25  # total variation between their answers in two orders (chosen by hand: lower asks two orders more)
ENOUGH_ORDERS = 2  # as given and reversed: the fewest that cancel a position bias; each order is a whole prefill
OFTEN = 0.25  # share of texts that need a place to read it along (chosen by hand): a token costs less than a prefill


@dataclass(frozen=True, slots=True)
class Question:
    """One question to the LLM: how probable is each of `tokens` after text `n` in prompt `order`, then `path`?

    `further` is the place one token later that will most likely be asked next. A runtime that can read one token more
    answers it in the same request, without a second prefill. Other runtimes ignore it.
    """

    n: int
    order: int
    path: Path
    tokens: Path
    further: Question | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """The reply: `logprobs` (K,) in nats. If `error` is not empty, the text becomes an abstention.

    `among` False: from the LLM's unconstrained distribution. True: among the asked tokens alone (mass not known).
    """

    logprobs: FloatArray
    prompt_tokens: int = 0
    completion_tokens: int = 0
    truncated: bool = False
    error: str = ""
    among: bool = False
    further: Read | None = None


Ask = Callable[[Sequence[str], Sequence[Question]], list[Read]]


def prompts_for(
    config: AnnotatorConfig, labels: LabelSet, instruction: str, shots: Sequence[Shot], *, coded: bool
) -> list[Prompt]:
    """One prompt for each label order that may be asked: `orders`, or two if the position bias is measured."""
    template = load_template(config.prompt)
    orders = label_orders(labels.C, config.orders or ENOUGH_ORDERS)
    return [build_prompt(template, labels, instruction, shots, coded=coded, order=order) for order in orders]


class OnePass:
    """Turns a runtime's `ask` into answers. Prior and position bias are measured once, on content-free texts.

    `foresees`: the runtime answers a question's `further`.
    """

    def __init__(self, config: AnnotatorConfig, trees: Sequence[TokenTree], ask: Ask, *, foresees: bool = True) -> None:
        self.foresees = foresees
        self.config = config
        self.own = tuple(tree.own() for tree in trees)
        self.trees = tuple(trees) if config.votes == "exact" else self.own
        self.ask = ask
        self.orders: int | None = config.orders or (1 if len(self.trees) == 1 else None)
        self.prior: FloatArray | None = None
        self.bias = float("nan")
        self.needed: Counter[tuple[int, Path]] = Counter()

    @property
    def C(self) -> int:
        return self.trees[0].C

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        """One Answer for each text, in order."""
        if self.orders is None:
            self._measure_bias()
        orders = min(self.orders or 1, len(self.trees))
        if self.config.prior == "content_free" and self.prior is None:
            blank = self._of_nothing(range(orders))
            self.prior = np.stack([self._probs(blank, order).mean(axis=0) for order in range(orders)])
        heard = self._collect(texts, range(orders))
        probs = np.stack([self._corrected(self._probs(heard, order), order) for order in range(orders)])
        merged = normalised(np.exp(np.log(np.maximum(probs, 1e-12)).mean(axis=0)))
        if self.prior is None:
            votes = np.mean([self._votes(heard, order) for order in range(orders)], axis=0)
        else:
            votes = expected_votes(merged, self.config.temperature, self.config.top_p)
        return [self._answer(heard[n], merged[n], votes[n]) for n in range(len(texts))]

    def _votes(self, heard: Sequence[_Heard], order: int) -> FloatArray:
        """(n, C) the exact shares of constrained sampling: temperature and top_p act on the tokens of each place."""
        settings = self.config.temperature, self.config.top_p
        tree = self.trees[order]
        return np.stack(
            [
                tree.distribution({at: expected_votes(k, *settings) for at, k in one.known[order].items()})
                for one in heard
            ]
        )

    def _measure_bias(self) -> None:
        """Ask two label orders if the answers to the texts without content differ by more than BIAS_BAR."""
        blank = self._of_nothing((0, 1))
        self.bias = float(total_variation(self._probs(blank, 0), self._probs(blank, 1)).mean())
        self.orders = ENOUGH_ORDERS if self.bias > BIAS_BAR else 1

    def _of_nothing(self, orders: Sequence[int]) -> list[_Heard]:
        """The reads of the texts without content. Raises AnnotatorUnavailable if one fails: all answers need them."""
        blank = self._collect(CONTENT_FREE, orders)
        for one in blank:
            if one.error:
                raise AnnotatorUnavailable(f"{self.config.name}: what it says of no text cannot be read: {one.error}")
        return blank

    def _collect(self, texts: Sequence[str], orders: Sequence[int]) -> list[_Heard]:
        heard = [_Heard({order: {} for order in orders}) for _ in texts]
        while True:
            places = [
                place
                for n, one in enumerate(heard)
                if not one.error
                for order in orders
                for place in self._questions(n, order, one.known[order])
            ]
            if not places:
                break
            for place, read in zip(places, self.ask(texts, places), strict=True):
                self._take(heard[place.n], place, read)
        for one in heard:
            self.needed.update((order, at) for order, known in one.known.items() for at in known)
        return heard

    def _questions(self, n: int, order: int, known: Mapping[Path, FloatArray]) -> list[Question]:
        """What to ask next about one text. A place that is another question's `further` gets no question of its own."""
        found = [Question(n, order, at, self._tokens(order, at)) for at in self._worth_asking(order, known)]
        found = [replace(place, further=self._further(place)) for place in found]
        along = {place.further.path for place in found if place.further}
        return [place for place in found if place.path not in along]

    def _further(self, place: Question) -> Question | None:
        """The place one token later that most texts needed after this one; None if fewer than OFTEN needed it."""
        after = [
            (count, at)
            for (order, at), count in self.needed.items()
            if at and order == place.order and at[:-1] == place.path
        ]
        count, at = max(after, default=(0, ()))
        often = self.foresees and at and count >= OFTEN * self.needed[place.order, place.path]
        return Question(place.n, place.order, at, self._tokens(place.order, at)) if often else None

    def _take(self, one: _Heard, place: Question, read: Read) -> None:
        """Store a read. Its `further` is kept only if that place would be asked anyway: it never changes an answer."""
        one.calls += 1
        one.take(place, read)
        if one.error or not place.further or not read.further:
            return
        if place.further.path in self._worth_asking(place.order, one.known[place.order]):
            one.take(place.further, read.further)

    def _tokens(self, order: int, at: Path) -> Path:
        return self.trees[order].place(at).tokens

    def _probs(self, heard: Sequence[_Heard], order: int) -> FloatArray:
        """(n, C) the paper's z: shares among the labels' own tokens (other spellings mean little in small models)."""
        own, wide = self.own[order], self.trees[order]
        return np.stack([own.distribution(own.seen_from(wide, one.known[order])) for one in heard])

    def _worth_asking(self, order: int, known: Mapping[Path, FloatArray]) -> list[Path]:
        own, wide = self.own[order], self.trees[order]
        return list(dict.fromkeys(wide.worth_asking(known) + own.worth_asking(own.seen_from(wide, known))))

    def _corrected(self, probs: FloatArray, order: int) -> FloatArray:
        return probs if self.prior is None else without_prior(probs, self.prior[order])

    def _answer(self, heard: _Heard, probs: FloatArray, votes: FloatArray) -> Answer:
        if heard.error:
            return abstention(self.C, heard.error, heard.prompt_tokens, heard.truncated)
        mass = float(np.mean(heard.mass)) if heard.mass else float("nan")
        tokens = heard.prompt_tokens, heard.completion_tokens
        return Answer(probs, votes, 0.0, *tokens, heard.truncated, calls=heard.calls, mass=mass)


class _Heard:
    """The reads of one text so far: `known` holds the shares (K,) by order and path."""

    def __init__(self, known: dict[int, dict[Path, FloatArray]]) -> None:
        self.known = known
        self.prompt_tokens = self.completion_tokens = self.calls = 0
        self.truncated = False
        self.mass: list[float] = []
        self.error = ""

    def take(self, place: Question, read: Read) -> None:
        self.prompt_tokens += read.prompt_tokens
        self.completion_tokens += read.completion_tokens
        self.truncated |= read.truncated
        if read.error or np.isnan(read.logprobs).any():
            self.error = read.error or "the LLM's log-probabilities hold NaN"
            return
        if not np.isfinite(read.logprobs).any():
            self.error = "the LLM gives no probability to any label"
            return
        if not place.path and not read.among:
            self.mass.append(float(np.exp(read.logprobs).sum()))
        self.known[place.order][place.path] = shares(read.logprobs)
