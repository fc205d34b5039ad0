"""Reading a page as a browser does: its tags, its text, its links."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Page(HTMLParser):
    """`tags`: each opened one with its attributes; `text`: all of it; `within`: the text below each id."""

    html: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    within: dict[str, str] = field(default_factory=dict)
    _open: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if tag not in ("meta", "link", "input", "br", "img", "base"):
            self._open.append((tag, given.get("id", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        while any(one == tag for one, _ in self._open):
            if self._open.pop()[0] == tag:
                return

    def handle_data(self, data: str) -> None:
        if any(tag in ("style", "script") for tag, _ in self._open):
            return
        self.text += data
        for _tag, number in self._open:
            if number:
                self.within[number] = self.within.get(number, "") + data

    def values(self, name: str) -> list[str]:
        """What stands in an attribute of this name, in any tag."""
        return [given[name] for _tag, given in self.tags if name in given]

    def forms(self) -> list[str]:
        return [given["action"] for tag, given in self.tags if tag == "form"]
