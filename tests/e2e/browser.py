"""A headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, WebDriverException

from tests.conftest import absent
from tests.waiting import LONG

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
# Without the flags in the second line a browser start looks up its maker's hosts.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip

GONE = "does not belong to the document"  # of an element that went away while it was read, in the driver's own words


@contextmanager
def being_drawn() -> Iterator[None]:
    """Leave the rest of the block out where the page is drawn anew while the block reads it."""
    try:
        yield
    except (NoSuchElementException, StaleElementReferenceException):
        pass
    except WebDriverException as error:
        if GONE not in (error.msg or ""):
            raise


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A browser with its own `profile` directory, ended on leaving; where there is none, see `absent`."""
    if not (CHROMIUM.exists() and CHROMEDRIVER.exists()):
        absent("no chromium: as root, `apt-get install chromium chromium-driver`")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        driver.set_page_load_timeout(LONG)
        yield driver
    finally:
        driver.quit()
