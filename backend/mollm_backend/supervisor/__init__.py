"""What `mollm up` starts, watches and ends: Valkey, the web backend, the worker, and in the demo Label Studio.

Every process started here runs in a session of its own and leaves a record of its pid and start time before its
program begins (`launch`), so that whatever happens to the supervisor, its next start can find and end them.
"""
