"""Whether the texts are read whole, and in a language that their readers know."""

from __future__ import annotations

from collections.abc import Iterator

from mollm.classifier.windows import Unread
from mollm.languages import share_not_english
from mollm.round.tuning import READER
from mollm_backend.doctor.finding import Finding, fine, notice
from mollm_backend.settings import Settings
from mollm_backend.store import Store, signals, tasks, versions
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import facts_of

ENGLISH_ONLY = ("all-MiniLM-L6-v2",)  # encoders that were trained on English alone
READERS = (
    ("unread", "the text encoder", "split these tasks if their ends matter"),
    ("unread_tuned", READER, 'the mixture beside it reads on; `classifier = "head"` does without tuned layers'),
)  # by their name among a version's facts, with what helps
SAMPLE = 300  # texts whose language is looked at, evenly spread: a share of a half is then known to .06
MANY = 0.2  # of these that are not English (chosen by hand): fewer change little in a project's figures


def examine(store: Store, settings: Settings, chosen: list[Project]) -> Iterator[Finding]:
    """What of the chosen projects' texts is not read, or read by what does not know their language."""
    for project in chosen:
        if project.connected:
            found = [*_cut(store, settings, project), *_language(store, settings, project)]
            yield from found or [fine("texts", f"project {project.id}: its texts are read whole")]


def _cut(store: Store, settings: Settings, project: Project) -> Iterator[Finding]:
    """Which texts were longer than their readers' windows."""
    version = versions.find(store, project.id, project.published_version)
    facts = [facts_of(version.facts, row.key) for row in project.decisions] if version else []
    for kind, reader, fix in READERS:
        reads = [Unread(**row[kind]) for row in facts if row.get(kind)]
        for unread in reads[:1]:  # all decisions share the texts
            if unread.longer:
                yield notice("texts-cut", f"project {project.id}: {unread.line(reader)}", fix)
    panel = {config.name: config for config in settings.panel_config().annotators}
    for name, count in signals.cut(store, project).items():
        mine = panel.get(name)
        held = f" ({mine.windows} of {mine.max_tokens:,} tokens)" if mine else ""
        line = f"project {project.id}: {name} read {count:,} texts only in part: its windows{held} hold no more"
        fix = "raise `max_tokens` in the panel, as far as the model's own window allows, or `windows`"
        yield notice("texts-cut", line, fix)


def _language(store: Store, settings: Settings, project: Project) -> Iterator[Finding]:
    """Whether the texts are in a language that the encoder reads."""
    if settings.encoder not in ENGLISH_ONLY:
        return
    ids = tasks.readable_ids(store, project.id)
    sample = tasks.some(store, project.id, ids[:: 1 + len(ids) // SAMPLE])
    share = share_not_english(task.text or "" for task in sample.values())
    if share >= MANY:
        line = (
            f"project {project.id}: some {share:.0%} of the texts are not English; the text encoder reads English only"
        )
        fix = "set MOLLM_ENCODER to a multilingual encoder (a directory, or an id on a hub) and start `mollm up` again"
        yield notice("not-english", line, fix)
