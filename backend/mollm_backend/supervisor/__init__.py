"""The processes that `mollm up` starts, watches and ends: Valkey, web backend, worker, and Label Studio in the demo.

Each process runs in its own session. Before its program begins, `launch` records its pid and start time in a file.
If the supervisor is killed, its next start finds these processes by their records and ends them.
"""
