"""A new SQLite store is a copy of one that was migrated: all migrations one by one, in each of a thousand tests, would
take most of their time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mollm_backend.store import Store


@pytest.fixture(scope="session", autouse=True)
def migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The first store of a process is migrated as everywhere; so is each store that holds anything."""
    first = tmp_path_factory.mktemp("store") / "new.db"
    store = Store(f"sqlite:///{first}", migrate=False)
    made = store.migrate()
    store.close()
    content = first.read_bytes()
    migrate = Store.migrate

    def copied(self: Store) -> tuple[str, str]:
        path = Path(self.url.database or "")
        if not self.is_sqlite or not path.is_file() or path.stat().st_size:
            return migrate(self)
        path.write_bytes(content)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "migrate", copied)
        yield
