"""Experiments on recordings, without leaks (README, Replay), and what the benches measure without a server."""
