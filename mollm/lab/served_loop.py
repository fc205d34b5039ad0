"""The service's loop on a recording: people label every batch, and each round is the one that the service runs."""

from __future__ import annotations

import numpy as np

from mollm.lab.experiment import Run, Step
from mollm.round.run import predict, run_round


class ServedLoop(Run):
    """People label the whole batch; each round is the service's."""

    def step(self, r: int) -> Step:
        outcome = run_round(self.given(r), config=self.options.loop_config(), encoder=self.encoder, rng=self.stream(r))
        items = [self.recording.items[n] for n in self.test]
        unseen = predict(outcome.state, items, self.recording.signals.take(self.test), self.encoder)
        place = {item.id: n for n, item in enumerate(self.items)}
        batch = np.array([place[entry.item] for entry in outcome.entries], dtype=np.int64)
        return Step(outcome.probabilities, unseen.argmax(axis=1), batch)
