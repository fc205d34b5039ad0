"""A decision server: one forward pass gives the probability of each label. See `_dialects` for who speaks what.

`url` is the server's address, or the endpoint itself where it ends in `/systemone` or `/decisions`. A probe at start
finds the dialect, whether the answers hold what is needed and depend on the text, and whether several questions may
stand in one request without changing each other's answers. Then a project's other decisions about the same texts are
asked along, and their answers kept until they are asked for.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np

from mollm.annotators import Annotator, Answer, abstention
from mollm.annotators._dialects import BadReply, Choice, Dialect, Probs, Reply, dialects_at, read, row
from mollm.annotators._http import Refused, Trouble, key_of
from mollm.annotators._one_pass import BIAS_BAR, CONTENT_FREE, ENOUGH_ORDERS
from mollm.annotators._servers import Servers
from mollm.annotators._ways import Way
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorError, AnnotatorUnavailable, ConfigError
from mollm.prompts import Shot, label_orders
from mollm.records import FloatArray, LabelSet
from mollm.signals import expected_votes, normalised, total_variation, without_prior

OTHER = Choice("other", "Is it short?", ("yes", "no"), ("", ""))  # asked along in the probe
SAME = 0.05  # total variation that company may make (chosen by hand; hosts' repeated answers differ by .01 to .02)
SATURATED = 0.999  # two rounded answers may be equal where one label has it all; that says nothing of the text
MOST_QUESTIONS = 16  # of a request: the smallest limit that a server documents (SGLang)
MOST_KEPT = 4096  # answers kept for a decision that was asked along: some chunks of a reading
LEFT = 0.75  # of a text that was too long; the next attempt has so much of it
PATIENCE = 30.0  # seconds for one forward pass where the panel file says nothing: a hang must not hold a worker
MEANINGLESS = ("mode", "prompt", "coding", "votes", "max_tokens", "dtype")  # a decision server does this by itself


class Decisions(Annotator):
    """One model behind a decision endpoint."""

    runtime = "decisions"
    asks_along = True

    def __init__(
        self,
        config: AnnotatorConfig,
        labels: LabelSet,
        instruction: str,
        shots: Sequence[Shot],
        models_dir: Path,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(config, labels, instruction, shots, models_dir)
        _check(config)
        found = [dialects_at(url) for url in config.urls]  # started alike: what the first speaks, all do
        roots, self.dialects = [root for root, _dialects in found], found[0][1]
        patience = config.timeout if "timeout" in config.model_fields_set else PATIENCE
        self.server = Servers(roots, key_of(config), patience, config.concurrency, transport=transport, sleep=sleep)
        self.pool = ThreadPoolExecutor(max_workers=config.concurrency * len(roots), thread_name_prefix=config.name)
        self.company: tuple[Decisions, ...] = ()
        self.kept: OrderedDict[str, Answer] = OrderedDict()
        self.options = _options(labels)
        self.probes = tuple(f"This is about {option}." for option in (self.options[0], self.options[-1]))
        self.choices = [self._choice(order) for order in label_orders(labels.C, config.orders or ENOUGH_ORDERS)]
        self.several = False
        self.prior: FloatArray | None = None
        try:
            self.dialect = self._find_dialect()
            self._measure()
        except Trouble as trouble:
            self.close()
            raise AnnotatorUnavailable(f"{config.name}: {trouble}") from None
        except BaseException:
            self.close()
            raise

    def ask_along(self, others: Sequence[Annotator]) -> None:
        self.company = tuple(
            other
            for other in others
            if isinstance(other, Decisions) and other is not self and other._address == self._address
        )

    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        known = {text: self.kept.pop(text) for text in texts if text in self.kept}
        asked = self._asked()
        rest = [text for text in texts if text not in known]
        for text, found in zip(rest, self.pool.map(lambda text: self._decided(text, asked), rest), strict=True):
            known[text] = found[0]
            for one, answer in zip(asked, found, strict=True):
                for other in self.company:
                    if other is one:
                        other._keep(text, answer)
                    elif other.fingerprint == one.fingerprint:  # the same question: its answer costs nothing more
                        other._keep(text, replace(answer, prompt_tokens=0, completion_tokens=0, calls=0))
        answers = [known[text] for text in texts]
        troubled = [answer.error for answer in answers if answer.error.startswith(Way.TROUBLE)]
        if troubled and (len(troubled) == len(answers) or not self._is_up()):
            raise AnnotatorUnavailable(f"{self.name}: {troubled[0]}")
        return answers

    def describe(self) -> str:
        asked = "several questions in a request" if self.several else "one question a request"
        orders = f", {len(self.choices)} label orders" * (len(self.choices) > 1)
        where = f"{self.server.url}{self.dialect.path}"
        return f"{self.name}: {self.config.model} at {where}, {self.dialect.name}, {asked}{orders}"

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.server.close()

    @property
    def _address(self) -> tuple[str, str, str]:
        return self.server.url, self.dialect.path, self.config.model

    def _asked(self) -> list[Decisions]:
        """Who is asked in one request: this one, and its company's other questions as far as there is room."""
        found = {self.fingerprint: self}
        room = MOST_QUESTIONS - len(self.choices)
        for other in self.company if self.several else ():
            if other.fingerprint not in found and len(other.choices) <= room:
                found[other.fingerprint] = other
                room -= len(other.choices)
        return list(found.values())

    def _keep(self, text: str, answer: Answer) -> None:
        """For when this one is asked about the text itself; a failed answer is asked for again then."""
        if not answer.error:
            self.kept[text] = answer
            while len(self.kept) > MOST_KEPT:
                self.kept.popitem(last=False)

    def _decided(self, text: str, asked: Sequence[Decisions]) -> list[Answer]:
        """One Answer for each of `asked` about one text. Where the request fails, only this one's own questions are
        asked, one by one: a text that is too long is cut for each, and one that is refused abstains."""
        try:
            if self.several and sum(len(one.choices) for one in asked) > 1:
                with contextlib.suppress(Refused, BadReply):
                    return self._together(text, asked)
            apart = self._together(text, asked[:1], apart=True)
        except (Refused, BadReply) as refused:
            apart = [abstention(self.labels.C, str(refused))]
        except Trouble as trouble:
            return [abstention(one.labels.C, Way.TROUBLE + str(trouble)) for one in asked]
        return apart + [abstention(other.labels.C, "not asked along") for other in asked[1:]]

    def _together(self, text: str, asked: Sequence[Decisions], *, apart: bool = False) -> list[Answer]:
        questions = [choice for one in asked for choice in one.choices]
        named = [replace(choice, name=f"q{k}") for k, choice in enumerate(questions)]
        batches = [[one] for one in named] if apart else [named]
        replies = [self._ask(text, batch) for batch in batches]
        probs = [one for reply, _ in replies for one in reply.probs]
        mass = [one for reply, _ in replies for one in reply.mass]
        prompt, completion = (
            _shares(sum(getattr(reply, what) for reply, _ in replies), len(named))
            for what in ("prompt_tokens", "completion_tokens")
        )
        answers, at = [], 0
        for one in asked:
            mine = slice(at, at + len(one.choices))
            at += len(one.choices)
            answer = one._answer(probs[mine], mass[mine])
            answers.append(
                replace(
                    answer, prompt_tokens=sum(prompt[mine]), completion_tokens=sum(completion[mine]),
                    truncated=any(cut for _, cut in replies), calls=len(batches) if one is self else 0,
                )
            )  # fmt: skip
        return answers

    def _ask(self, text: str, questions: Sequence[Choice], attempts: int | None = None) -> tuple[Reply, bool]:
        """The reply, and whether the text was cut (for one question only). Raises Refused, Trouble, BadReply."""
        piece = text
        how = {} if attempts is None else {"attempts": attempts}
        while True:
            body = self.dialect.body(self.config.model, piece, questions)
            try:
                return read(self.server.call("POST", self.dialect.path, body, **how), questions), piece != text
            except Refused as refused:
                shorter = piece[: int(LEFT * len(piece))]
                if not refused.overflow or not shorter or len(questions) > 1:
                    raise
                piece = shorter

    def _answer(self, probs: Sequence[Probs], mass: Sequence[float]) -> Answer:
        """From the probabilities in each label order."""
        rows = []
        for one in probs:
            if isinstance(one, BadReply):
                return abstention(self.labels.C, str(one))
            rows.append(row(one, self.options))
        merged = self._merged(np.stack(rows))
        votes = expected_votes(merged, self.config.temperature, self.config.top_p)
        return Answer(merged, votes, mass=float(np.mean(mass)))

    def _merged(self, rows: FloatArray) -> FloatArray:
        """(C,) from (orders, C): without the prior where one is asked for; the geometric mean over the orders."""
        if self.prior is not None:
            rows = without_prior(rows, self.prior)
        return rows[0] if len(rows) == 1 else normalised(np.exp(np.log(np.maximum(rows, 1e-12)).mean(axis=0)))

    def _choice(self, order: Sequence[int]) -> Choice:
        described = self.labels.descriptions or ("",) * self.labels.C
        return Choice(
            "q", self._instructions(), tuple(self.options[c] for c in order), tuple(described[c] for c in order)
        )

    def _instructions(self) -> str:
        shown = [
            f"Text: {' '.join(shot.text.split())}\nAnswer: {self.options[self.labels.index(shot.label)]}"
            for shot in self.shots
        ]
        return "\n\n".join([self.instruction.strip(), *shown])

    def _find_dialect(self) -> Dialect:
        """The first dialect that the server speaks and answers in as it must. Raises AnnotatorError, Trouble."""
        tried: list[str] = []
        for dialect in self.dialects:
            self.dialect = dialect
            try:
                self._probe()
            except Refused as refused:
                if refused.status in (401, 403):
                    raise AnnotatorError(f"{self.name}: {refused}") from None
                tried.append(f"{dialect.name}: {refused}")
            except BadReply as bad:  # the dialect is spoken: no other would answer better
                raise AnnotatorError(f"{self.name}: {self.server.url}{dialect.path}: {bad}.") from None
            else:
                return dialect
        raise AnnotatorError(f"{self.name}: {self.server.url} serves no decisions; " + "; ".join(tried))

    def _probe(self) -> None:
        """Raises BadReply where the answers cannot be used, Refused where this dialect is not spoken."""
        self.several = False
        alone = [self._read_probe(text) for text in self.probes]
        if np.array_equal(alone[0], alone[1]) and alone[0].max() < SATURATED and self.labels.C > 1:
            raise BadReply("the decision server gives each text the same probabilities: it does not read it")
        try:
            reply, _ = self._ask(self.probes[0], [self.choices[0], OTHER])
            together = self._row(reply)
        except (Refused, BadReply):
            return
        self.several = float(total_variation(alone[0], together)) <= SAME and not isinstance(reply.probs[1], BadReply)

    def _read_probe(self, text: str) -> FloatArray:
        return self._row(self._ask(text, self.choices[:1])[0])

    def _row(self, reply: Reply) -> FloatArray:
        """(C,) of the reply's first question. Raises BadReply."""
        first = reply.probs[0]
        if isinstance(first, BadReply):
            raise first
        return row(first, self.options)

    def _measure(self) -> None:
        """What it says of texts without content: its position bias, and its prior where that is asked for."""
        undecided = not self.config.orders and len(self.choices) > 1
        if not undecided and self.config.prior == "none":
            return
        blank = np.stack([self._of_nothing(choice) for choice in self.choices])  # (orders, texts, C)
        if undecided and float(total_variation(blank[0], blank[1]).mean()) <= BIAS_BAR:
            self.choices, blank = self.choices[:1], blank[:1]
        if self.config.prior == "content_free":
            self.prior = np.asarray(blank.mean(axis=1))

    def _of_nothing(self, choice: Choice) -> FloatArray:
        """(texts, C). Raises AnnotatorError: all answers need them."""
        try:
            return np.stack([self._row(self._ask(text, [choice])[0]) for text in CONTENT_FREE])
        except (Refused, BadReply) as error:
            raise AnnotatorError(f"{self.name}: what it says of no text cannot be read: {error}") from None

    def _is_up(self) -> bool:
        try:
            self._ask(self.probes[0], self.choices[:1], attempts=1)
        except AnnotatorError:
            return False
        return True


def _check(config: AnnotatorConfig) -> None:
    """Raises ConfigError for what is missing, or would have no effect."""
    if not config.url:
        raise ConfigError(f"{config.name}: runtime `decisions` needs `url`, the address of the server.")
    default = AnnotatorConfig(name=config.name, model=config.model)
    for name in MEANINGLESS:
        if getattr(config, name) != getattr(default, name):
            raise ConfigError(f"{config.name}: `{name}` means nothing to runtime `decisions`: leave it out.")


def _options(labels: LabelSet) -> tuple[str, ...]:
    """The labels as they are sent: as people read them where that tells them apart, else their stored names."""
    shown = tuple(" ".join(labels.text_of(c).split()) for c in range(labels.C))
    return shown if len({text.casefold() for text in shown}) == labels.C and all(shown) else labels.names


def _shares(total: int, parts: int) -> list[int]:
    """A request's tokens over its questions, as evenly as whole tokens go."""
    return [total // parts + (k < total % parts) for k in range(parts)]
