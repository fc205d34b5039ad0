"""How many requests at once a server gets: more as long as it keeps up, fewer where it does not (AIMD).

Additive increase, multiplicative decrease (Chiu and Jain 1989, doi 10.1016/0169-7552(89)90019-6). A server keeps up
while the mean time of an answer is at most `KEEPS_UP` times the shortest mean seen: one that batches answers many at
once in little more time, and one that does not only lets them wait.
"""

from __future__ import annotations

import threading

FIRST = 2  # requests at once to begin with; more are learned within seconds
DOUBLES = 1.5  # up to this many times the shortest mean the limit doubles until its first cut: large servers fill soon
# Chosen by hand: a server that answers one by one is asked for four to eight at once, so that it never waits for us.
KEEPS_UP = 4.0
LESS, HALF = 0.9, 0.5  # of the limit, after slow answers and after a refusal, an error or a time-out


class Limit:
    """The limit of one server, from 1 to `most`. Thread-safe."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._now = float(min(FIRST, most))
        self._shortest = float("inf")
        self._times: list[float] = []
        self._reached = False
        self._alone = True  # no answer of these came while another request was under way
        self._doubles = True
        self._spared = 0  # answers to requests that were sent before the last cut

    @property
    def now(self) -> int:
        return int(self._now)

    def answered(self, seconds: float, under_way: int) -> None:
        """A request was answered after `seconds`; `under_way` of them were, this one included."""
        with self._lock:
            self._spared = max(self._spared - 1, 0)
            self._times.append(seconds)
            self._reached = self._reached or under_way >= self.now
            self._alone = self._alone and under_way <= 1
            if len(self._times) < max(self.now, FIRST):
                return
            mean = sum(self._times) / len(self._times)
            # Texts may have become longer for good: one at a time, the mean is the shortest that there is now.
            self._shortest = min(self._shortest, mean) if self.now > 1 else mean
            if mean > KEEPS_UP * self._shortest:
                if not self._alone:  # else it was slow for another reason
                    self._now, self._doubles = max(self._now * LESS, 1.0), False
            elif self._reached:
                doubled = self._doubles and mean <= DOUBLES * self._shortest
                self._now = min(2 * self._now if doubled else self._now + 1, float(self.most))
            self._times, self._reached, self._alone = [], False, True

    def refused(self, under_way: int) -> None:
        """The server had too much, or failed. What was sent before the last cut says that only once."""
        with self._lock:
            if self._spared:
                self._spared -= 1
                return
            self._now, self._doubles = max(self._now * HALF, 1.0), False
            self._spared = max(under_way - 1, 0)
            self._times, self._reached, self._alone = [], False, True
