"""Replay of a whole project: how many human labels until all of a recording is certified, and was the promise kept?

Under seed s the loop chooses batches of human labels, the service's round is fitted after each, and
`mollm.acceptance.plan` says what comes next. An audit is drawn with `default_rng([s, 3])` and answered by gold, one
task after the other, until it suffices. If it is refused, its answers become labels, and the next one has less of
1 - confidence to spend. People's labels count as right. Gold is shown for the human labels and the audited items alone;
the rest of it only scores.

Each round says, too, on how many of the open items the mixture itself expects to be right, beside the truth.

How long an audit takes is much luck. So the first one may be drawn several times in the same round, from the second on
with `default_rng([s, 3, draw])`; from there each draw goes its own way. A seed's share is the mean over its draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from mollm.acceptance.bet import Bet, draw
from mollm.acceptance.certificate import fixed_number, level
from mollm.acceptance.doubt import expected_right
from mollm.acceptance.plan import Finish, Goal, plan
from mollm.config import COLD_UNTIL, LoopConfig
from mollm.errors import InputError
from mollm.lab.accept import AUDIT_STREAM
from mollm.lab.fuse import KnownTexts, Part
from mollm.metrics import mean_share, wilson
from mollm.mixture.cold_start import choose
from mollm.recording import Recording
from mollm.records import BoolArray, FloatArray, IntArray
from mollm.round.run import Embeds, RoundInput, RoundOutcome, no_op, run_round

LOOP_STREAM = 2  # as docs/method.md fixes it


@dataclass(frozen=True)
class Options:
    """What to replay, over which seeds. `rival`: random labels in place of the loop's choice, beside it; `draws` of a
    seed's first audit."""

    goal: Goal = field(default_factory=Goal)
    classifier: str = "auto"
    rival: bool = True
    seeds: int = 20
    first_seed: int = 100
    draws: int = 1
    jobs: int = 1
    config: LoopConfig = field(default_factory=LoopConfig)

    def check(self, recording: Recording) -> None:
        """Raise InputError for options that this recording cannot serve."""
        labelled = int((recording.gold >= 0).sum())
        if labelled <= COLD_UNTIL:
            raise InputError(f"{labelled} items have gold: a project of more than {COLD_UNTIL} is needed to replay it.")
        if self.classifier not in ("auto", "head"):
            raise InputError(f"--classifier {self.classifier!r} is neither auto nor head.")


@dataclass(frozen=True, slots=True)
class Played:
    """One seed and draw: the human `labels` of both kinds, how many of them are audits', the `attempts` to certify, the
    rounds, the share of the pool that people labelled, and whether the whole pool is as right as the target."""

    seed: int
    draw: int
    labels: int
    audits: int
    attempts: int
    rounds: int
    share: float
    kept: bool

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Guessed:
    """After so many `labels`: the share of the open items on which the mixture expects to be right, as it stands and
    `allowing` for labels that the loop chose, and the share on which it is `right`."""

    labels: int
    expected: float
    allowing: float
    right: float


def replay(
    recording: Recording,
    options: Options,
    encoder: Embeds | None = None,
    embeddings: FloatArray | None = None,
    progress: Callable[[str], None] = no_op,
) -> dict[str, object]:
    """Run the options; JSON-able. `encoder` is what `auto` tunes; `embeddings` (N, D) are enough for `head`."""
    options.check(recording)
    began = time.monotonic()
    known = np.flatnonzero(recording.gold >= 0)
    pool = Part(recording, embeddings).take(known)
    results: dict[str, list[Played]] = {}
    guesses: dict[str, list[Guessed]] = {}
    ways = [("", options.goal), ("random", replace(options.goal, chosen=False))][: 1 + options.rival]
    for name, goal in ways:
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        run = Parallel(n_jobs=min(options.jobs, options.seeds), return_as="generator")
        results[name], guesses[name] = [], []
        for rows, said in run(
            delayed(play)(pool, encoder, replace(options, goal=goal), seed, progress) for seed in seeds
        ):
            results[name] += rows
            guesses[name] += said
            one = summary(rows)
            progress(
                f"seed {rows[0].seed} {name or 'chosen'}: {one['labels']:.0f} labels, {one['audits']:.0f} of them "
                f"audits, kept {one['kept']} of {len(rows)}"
            )
    about = {"recording": recording.name, "target": options.goal.target, "confidence": options.goal.confidence}
    found = {name: summary(rows) | {"guesses": by_labels(guesses[name])} for name, rows in results.items()}
    rival = {"random": about | found["random"]} if options.rival else {}
    return about | found[""] | rival | {"seconds": round(time.monotonic() - began, 2)}


def summary(rows: Sequence[Played]) -> dict[str, Any]:
    """Means over seeds, the 95 % interval of the mean share, the number of `rows` in which the promise was kept. The
    intervals are over seeds: the draws of one audit share its rounds."""
    seeds = sorted({row.seed for row in rows})
    share = mean_share(np.array([np.mean([row.share for row in rows if row.seed == seed]) for seed in seeds]))
    kept = sum(row.kept for row in rows)
    held = wilson(kept / len(rows), len(seeds))
    return {
        "seeds": seeds,
        "labels": float(np.mean([row.labels for row in rows])),
        "audits": float(np.mean([row.audits for row in rows])),
        "share": share.value,
        "share_interval": [share.low, share.high],
        "kept": kept,
        "kept_share": [held.value, held.low, held.high],
        "rows": [row.as_json() for row in rows],
    }


def by_labels(guesses: Sequence[Guessed]) -> list[dict[str, Any]]:
    """The means over the `n` seeds that had a round after so many labels; in `between` of them the truth lay between
    the two ends of the guess."""
    told = []
    for labels in sorted({row.labels for row in guesses}):
        rows = [row for row in guesses if row.labels == labels]
        means = {
            name: float(np.mean([getattr(row, name) for row in rows])) for name in ("expected", "allowing", "right")
        }
        inside = sum(row.expected <= row.right <= row.allowing for row in rows)
        told.append({"labels": labels, "n": len(rows), **means, "between": inside})
    return told


def play(
    pool: Part, encoder: Embeds | None, options: Options, seed: int, progress: Callable[[str], None] = no_op
) -> tuple[list[Played], list[Guessed]]:
    """One seed: a row for each draw, and what its rounds up to the first audit expected. One BLAS thread: sums are then
    the same in any process."""
    with threadpool_limits(1, user_api="blas"):
        project = Project(pool, encoder, options, seed, progress)
        rows = project.finished()
        return rows, project.guessed


@dataclass
class Project:
    """A project under one seed: who has labelled what, and which audits were made."""

    pool: Part
    encoder: Embeds | None
    options: Options
    seed: int
    progress: Callable[[str], None] = no_op

    def __post_init__(self) -> None:
        self.N, self.goal = self.pool.recording.signals.N, self.options.goal
        self.gold = self.pool.recording.gold
        self.audit_rng = np.random.default_rng([self.seed, AUDIT_STREAM])
        self.random = np.random.default_rng([self.seed, LOOP_STREAM]).permutation(self.N)
        self.asked = self._first()
        self.audits, self.attempts, self.rounds = 0, 0, 0
        self.draw, self.draws = 0, self.options.draws
        self.guessed: list[Guessed] = []

    def _first(self) -> IntArray:
        """The first labels: by the cold start's design, or at random."""
        if not self.goal.chosen:
            return self.random[:COLD_UNTIL]
        rng = np.random.default_rng([self.seed, LOOP_STREAM])
        return choose(self.pool.labelled([]), lambda index: self.gold[index], COLD_UNTIL, rng=rng)

    @property
    def open(self) -> BoolArray:
        """(N,) what nobody has labelled."""
        free = np.ones(self.N, dtype=np.bool_)
        free[self.asked] = False
        return free

    def finished(self) -> list[Played]:
        """Rounds, until the pool is finished: a row for each draw of the audit."""
        while True:
            outcome = self.round()
            ahead = self.plan(outcome.probabilities.max(axis=1))
            if not self.attempts and self.open.any():
                self.guessed.append(self.guess(outcome))
            if self.draws > 1 and ahead.step == "audit":
                return [row for one in self.drawn() for row in one.ended(outcome, ahead)]
            if self.step(outcome, ahead):
                return [replace(self.played(outcome), draw=self.draw + more) for more in range(self.draws)]

    def drawn(self) -> Iterator[Project]:
        """This project once for each draw of the audit that comes next."""
        for draw_ in range(self.draws):
            one = copy(self)
            one.draw, one.draws = draw_, 1
            if draw_:
                one.audit_rng = np.random.default_rng([self.seed, AUDIT_STREAM, draw_])
            yield one

    def ended(self, outcome: RoundOutcome, ahead: Finish) -> list[Played]:
        """The rows from the next step on."""
        return [self.played(outcome)] if self.step(outcome, ahead) else self.finished()

    def played(self, outcome: RoundOutcome) -> Played:
        """The row of a finished project."""
        wrong = int((outcome.probabilities.argmax(axis=1) != self.gold)[self.open].sum())
        H, kept = len(self.asked), wrong <= self.goal.allowed(self.N)
        return Played(self.seed, self.draw, H, self.audits, self.attempts, self.rounds, H / self.N, kept)

    def round(self) -> RoundOutcome:
        """The service's round on what people have said."""
        self.rounds += 1
        encoder = self.encoder if self.options.classifier == "auto" else None
        if encoder is not None:  # such a round takes minutes
            self.progress(f"seed {self.seed}: round {self.rounds} on {len(self.asked)} labels")
        own = {"classifier": "head" if encoder is None else "auto", "batch_size": self.goal.batch, "reserve": 0}
        config = self.options.config.model_copy(update=own)
        recording, rng = self.pool.recording, np.random.default_rng([self.seed, LOOP_STREAM, self.rounds])
        given = RoundInput(recording.items, recording.signals, self.pool.labelled(self.asked).targets, self.rounds)
        return run_round(given, config=config, encoder=encoder or KnownTexts.of(self.pool), rng=rng)

    def step(self, outcome: RoundOutcome, ahead: Finish) -> bool:
        """Do what the plan says with this round; is the pool finished?"""
        if ahead.step == "audit":
            return self.audit(outcome, ahead)
        if ahead.step == "batch":
            self.label(self.batch(outcome, ahead.labels))
            return False
        self.label(self.doubtful(outcome)[: ahead.labels])
        return True

    def plan(self, confidence: FloatArray) -> Finish:
        """The core's plan for what is open now."""
        return plan(confidence[self.open], len(self.asked), self.N, self.goal, attempts=self.attempts)

    def guess(self, outcome: RoundOutcome) -> Guessed:
        """What this round expects of the open items, and the truth."""
        probs, gold = outcome.probabilities[self.open], self.gold[self.open]
        ends = expected_right(probs.max(axis=1), len(self.asked), chosen=self.goal.chosen)
        return Guessed(len(self.asked), *ends, float((probs.argmax(axis=1) == gold).mean()))

    def doubtful(self, outcome: RoundOutcome) -> IntArray:
        """The open items, the most doubtful first."""
        free = np.flatnonzero(self.open)
        return free[np.argsort(outcome.probabilities.max(axis=1)[free], kind="stable")]

    def label(self, items: IntArray) -> None:
        """People say what these items are."""
        self.asked = np.concatenate([self.asked, items])

    def batch(self, outcome: RoundOutcome, labels: int) -> IntArray:
        """The next items to ask about: the round's batch, or random ones."""
        if not self.goal.chosen:
            return self.random[self.open[self.random]][:labels]
        place = {name: n for n, name in enumerate(self.pool.recording.signals.items)}
        return np.array([place[entry.item] for entry in outcome.entries[:labels]], dtype=np.int64)

    def audit(self, outcome: RoundOutcome, ahead: Finish) -> bool:
        """Audit the open items, one after the other, until the answers certify all of them; do they?"""
        self.attempts += 1
        items = np.flatnonzero(self.open)
        bet = Bet(len(items), fixed_number(self.goal.allowed(self.N)))
        places, chance = draw(outcome.probabilities[items].max(axis=1), ahead.audit.labels, self.audit_rng)
        wrong = outcome.probabilities[items[places]].argmax(axis=1) != self.gold[items[places]]
        found = bet.certified(chance, wrong, level(self.goal.confidence, self.attempts))
        self.label(items[places[: found.audits]])
        self.audits += found.audits
        return bool(found.tasks)
