"""A pin is read in the transaction that publishes, on every database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from mollm.records import LabelSet
from mollm_backend.store import Store, batches, pins, projects, versions
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import Version


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A project with the versions v0, v1 and v2, each with a batch; none is published."""
    opened = Store(url)
    asked = (Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog"))),)
    projects.save(opened, Project(7, "http://x", "pets", "", "<View/>", asked))
    for n in range(3):
        versions.save(opened, 7, Version(f"v{n}", n, "candidate", 0), [])
        batches.save(opened, 7, f"b{n}", [StoredEntry(n, 0, f"v{n}", "cat", 0.5, "")])
    yield opened
    opened.close()


def pointers(store: Store) -> tuple[str | None, str | None]:
    found = projects.get(store, 7)
    return found.published_version, found.batch_version


def test_a_pin_holds_until_it_is_taken_away(store: Store) -> None:
    assert versions.publish(store, 7, "v1", "b1")
    batches.mark_published(store, 7, "b0", [0])
    pins.pin(store, 7, "v0", "b0")
    assert pointers(store) == ("v0", "b0")
    assert batches.entries(store, 7, "b0")[0].published_at is None, "Label Studio is asked whether it still has it"
    pinned_at = projects.get(store, 7).pinned_at
    assert not versions.publish(store, 7, "v2", "b2")
    assert not versions.publish(store, 7, "v2", "b2", pinned_at=pinned_at), "it was not pinned until the next version"
    assert pins.unpin(store, 7) == "v2"
    assert pointers(store) == ("v2", "b2")
    assert projects.get(store, 7).pinned_at == ""


def test_only_who_knew_of_it_ends_a_pin_until_the_next_version(store: Store) -> None:
    versions.publish(store, 7, "v1", "b1")
    pins.pin(store, 7, "v0", "b0", until_next=True)
    assert not versions.publish(store, 7, "v1", "b1"), "it began before the pin"
    assert versions.publish(store, 7, "v2", "b2", pinned_at=projects.get(store, 7).pinned_at)
    assert pointers(store) == ("v2", "b2")
    assert projects.get(store, 7).pin == ""


def test_a_pin_wins_over_all_who_publish_at_the_same_time(store: Store) -> None:
    pinned = Event()

    def publish_often(version: str) -> list[bool]:
        own = Store(store.url.render_as_string(hide_password=False))
        after = []
        for _ in range(15):
            late = pinned.is_set()
            moved = versions.publish(own, 7, version, f"b{version[1:]}")
            after += [moved] if late else []
        own.close()
        return after

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(publish_often, version) for version in ("v1", "v2", "v1")]
        pins.pin(store, 7, "v0", "b0")
        pinned.set()
        assert not any(moved for job in running for moved in job.result())
    assert pointers(store) == ("v0", "b0")
