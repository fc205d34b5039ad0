"""Requests at a fixed rate whatever the answers take (run as a script: a JSON file with what to send, one to write).

Each request has its moment; its latency counts from there, so that a slow answer is not hidden by the requests that
it holds up. Each one opens its own connection, as Label Studio does for its events.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

THREADS = 24


def send(host: str, port: int, what: dict[str, Any], n: int) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request("POST", what["path"], what["bodies"][n % len(what["bodies"])].encode(), what["headers"])
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def stream(url: str, what: dict[str, Any], seconds: float, begin: float) -> list[tuple[float, int]]:
    """(latency in ms, status) of each of `what["rate"]` requests a second."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 80
    total, numbers, found = int(seconds * what["rate"]), count(), list[tuple[float, int]]()

    def work() -> None:
        while (n := next(numbers)) < total:
            due = begin + n / what["rate"]
            time.sleep(max(0.0, due - time.monotonic()))
            status = send(host, port, what, n)
            found.append((1000 * (time.monotonic() - due), status))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    begin, found = time.monotonic() + 1.0, dict[str, list[tuple[float, int]]]()

    def run(name: str) -> None:
        found[name] = stream(plan["url"], plan["streams"][name], plan["seconds"], begin)

    threads = [threading.Thread(target=run, args=(name,)) for name in plan["streams"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
