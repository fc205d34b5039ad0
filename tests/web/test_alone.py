"""The web image holds what web.in asks for and nothing else: with that every route answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings

from .alone import ROOT, OnlyLocked


def test_the_web_part_answers_every_route_with_the_packages_of_its_image(runtime: Runtime, settings: Settings) -> None:
    environment = os.environ | {
        "MOLLM_HOME": str(settings.home), "REDIS_URL": settings.redis_url, "DATABASE_URL": "",
        "MOLLM_BASIC_AUTH_PASSWORD": "pass", "MOLLM_WEBHOOK_SECRET": "hook",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.web.alone", "7"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said) > 12
    assert {what: status for what, status in said.items() if status not in (200, 201, 303)} == {}


def test_what_the_web_image_leaves_out_is_refused() -> None:
    left_out = {"scipy", "sklearn", "pandas", "cv2", "matplotlib", "faker", "torch", "label_studio_sdk", "transformers"}
    assert left_out <= OnlyLocked().refused
