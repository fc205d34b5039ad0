"""Experiments on recordings: what the mixture and the loop would have done, without leaks (README, Replay)."""
