"""A version's tuned classifier as files that transformers loads, and how many versions keep them.

Under `versions/<project>/<version>/pretrained` lies an ordinary `save_pretrained` directory with a model card. It and
the tuned weights are large (some 110 MB for a small encoder), so only the newest few versions and the published one
keep them; the predictions, and everything else of a version, stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from mollm.classifier.tuned import save_pretrained
from mollm.records import FittedState
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store.projects import Project
from mollm_backend.store.version_files import VersionFiles
from mollm_backend.store.versions import Version

KEPT = 3  # versions with their large files: enough to go back some days, at 110 MB each (chosen by hand)
NAME = "pretrained"


def save(runtime: Runtime, project: Project, version: Version, state: Mapping[str, FittedState]) -> None:
    """Write the tuned classifier of a version, if it has one, beside its state; then thin out the older ones."""
    if "tuned" not in state:
        return
    where = runtime.version_files.of(project.id, version.id)
    names = project.decision.labels.names
    save_pretrained(state, runtime.encoder(), where / NAME, names, card(project, version))
    thin_out(runtime.version_files, project.id, {version.id, project.published_version or ""})


def card(project: Project, version: Version) -> dict[str, object]:
    """What the model card says of the data and the scores."""
    scores = version.facts["scores"]
    return {
        "version": version.id,
        "project": project.title,
        "human labels": version.human_labels,
        "texts in the pool": version.facts["pool"],
        **{f"{name}, cross-fitted on the human labels, with the mixture": f"{scores[name]:.3f}" for name in scores},
    }


def thin_out(files: VersionFiles, project_id: int, keep: set[str]) -> None:
    """Delete the large files of all but the newest `KEPT` versions that this host wrote and those named in `keep`."""
    home = files.directory / str(project_id)
    tuned = sorted(home.glob(f"*/{NAME}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for directory in tuned[KEPT:]:
        if directory.parent.name not in keep:
            shutil.rmtree(directory, ignore_errors=True)
            files.drop(project_id, directory.parent.name, "tuned.safetensors")  # its facts stay: reading it says so
