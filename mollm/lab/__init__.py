"""Experiments on recordings, without leaks (docs/method.md), and what the benches measure without a server."""
