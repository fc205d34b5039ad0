"""A pytest plugin: the files of a folder count as files of a package, as `MOLLM_EXAMPLE=package:folder` says.

So the contract tests of an open folder run over a new file that is not in the folder.
"""

from __future__ import annotations

import importlib
import os

package, _, folder = os.environ["MOLLM_EXAMPLE"].partition(":")
importlib.import_module(package).__path__.append(folder)
