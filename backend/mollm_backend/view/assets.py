"""The files that a page needs besides its HTML: style sheets, the script, the icon. They hold no data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

DIRECTORY = Path(__file__).parent / "static"
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """`digest` names the content, so that a browser may keep it for ever under an address that holds the digest."""

    content: bytes
    kind: str
    digest: str


@cache
def every() -> dict[str, Asset]:
    """All files by name; read once in a process."""
    found = {}
    for path in sorted(DIRECTORY.iterdir()):
        if path.suffix in KINDS:
            content = path.read_bytes()
            found[path.name] = Asset(content, KINDS[path.suffix], sha256(content).hexdigest()[:16])
    return found


def address(name: str) -> str:
    """Where a page finds a file. Raises KeyError where there is no such file."""
    return f"/static/{name}?v={every()[name].digest}"


def styles() -> list[str]:
    """The addresses of all style sheets, in the order of their names."""
    return [address(name) for name in every() if name.endswith(".css")]
