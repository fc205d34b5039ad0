"""The errors of calls to Label Studio. All are MollmError: the message may be shown and says what to do."""

from __future__ import annotations

from mollm.errors import MollmError


class LabelStudioError(MollmError):
    """Label Studio's answer to this call cannot be used; the same call would fail again.

    `what` and `fix` are the message's two halves: what was wrong, and what to do about it.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what}: {fix}." if fix else what)
        self.what = what
        self.fix = fix


class LabelStudioDown(LabelStudioError):
    """Label Studio cannot be reached, or it failed; the same call may succeed later."""


class LabelStudioRefused(LabelStudioError):
    """The token is missing, wrong, expired or of a disabled kind, or its user may not do this."""


class PrivateAddress(LabelStudioError):
    """Label Studio's protection against private addresses blocks the address that it was given."""


class LabelStudioNotFound(LabelStudioError):
    """The thing that the call names does not exist (any more), or the token's user may not see it."""


class LabelsWouldVanish(MollmError):
    """A reconciliation would delete more labels than it may without a person's permission."""


class OtherProject(MollmError):
    """The server or the project is not the one that was connected (restored backup, other host, reused number)."""
