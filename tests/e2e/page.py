"""What a person does in Label Studio's page: log in, open a task, read what is checked, submit."""

from __future__ import annotations

import re
import time
from typing import Any

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    TimeoutException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.e2e.browser import being_drawn

SECONDS = 600  # both only bound a hang
PATIENCE = 60
COVERED = (ElementNotInteractableException, ElementClickInterceptedException)  # of a button, for a moment
# The bar at the bottom: the task's number, in the stream its place in the history, then the buttons.
SHOWN_TASK = r"#?(\d+)\s+(?:\d+ of \d+\s+)?(?:Skip\s+)?Submit\b"


class LabelStudioPage:
    def __init__(self, driver: Any, url: str, project: int) -> None:
        self.driver = driver
        self.url = url
        self.project = project

    def _until(self, what: Any) -> Any:
        def found(driver: Any) -> Any:
            with being_drawn():
                return what(driver)

        wait = WebDriverWait(self.driver, SECONDS, poll_frequency=0.2, ignored_exceptions=COVERED)
        try:
            return wait.until(found)
        except TimeoutException as error:
            shown = self.driver.find_element(By.TAG_NAME, "body").text[-1500:]
            raise AssertionError(f"the page {self.driver.current_url} still shows:\n{shown}") from error

    def log_in(self, user: str, password: str) -> None:
        self.driver.get(f"{self.url}/user/login/")
        self.driver.find_element(By.NAME, "email").send_keys(user)
        self.driver.find_element(By.NAME, "password").send_keys(password)
        self.driver.find_element(By.CSS_SELECTOR, "form button").click()
        self._until(lambda _: "/user/login" not in self.driver.current_url)

    def open_task(self, task: int) -> None:
        self.driver.get(f"{self.url}/projects/{self.project}/data?task={task}")
        self._until(lambda _: self.task() == task)

    def label_all_tasks(self) -> None:
        """The button that starts the label stream."""
        self.driver.get(f"{self.url}/projects/{self.project}/data")
        self.click(By.XPATH, "//button[normalize-space()='Label All Tasks']")
        self.current()

    def current(self) -> int:
        """The number of the task that is shown, once one is."""
        return int(self._until(lambda _: self.task()))

    def task(self) -> int | None:
        """The number of the task that is shown now; None while the page is between two."""
        shown = ""
        with being_drawn():
            shown = self.driver.find_element(By.TAG_NAME, "body").text
        found = re.search(SHOWN_TASK, shown)
        return int(found.group(1)) if found else None

    def checked(self) -> list[str]:
        """The labels that are checked; a page that is still being drawn gets some seconds to check one."""
        end = time.monotonic() + PATIENCE
        while True:
            with being_drawn():
                boxes = self.driver.find_elements(By.CSS_SELECTOR, "input[type=checkbox][name]")
                names = [box.get_attribute("name") for box in boxes if box.is_selected()]
                if names or time.monotonic() > end:
                    return names
            time.sleep(0.2)

    def click(self, how: str, what: str) -> None:
        """Click once, as soon as it is there and nothing lies over it."""

        def clicked(driver: Any) -> bool:
            driver.find_element(how, what).click()
            return True

        self._until(clicked)

    def choose(self, label: str) -> None:
        def clicked(driver: Any) -> bool:
            box = driver.find_element(By.CSS_SELECTOR, f"input[type=checkbox][name='{label}']")
            driver.execute_script("arguments[0].click()", box)
            return True

        self._until(clicked)
        self._until(lambda _: self.checked() == [label])

    def submit(self) -> None:
        """Submit, and wait until the stream shows another task."""
        before = self.current()

        def pressed(driver: Any) -> bool:
            now = self.task()
            if now == before:
                driver.find_element(By.CSS_SELECTOR, "button[name=submit]").click()
            return now is not None  # another one: a press whose answer was lost had gone through

        self._until(pressed)
        self._until(lambda _: self.task() not in (None, before))
