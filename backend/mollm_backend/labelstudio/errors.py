"""What Label Studio can do to a call. All are MollmError: each message may be shown and says what to do."""

from __future__ import annotations

from mollm.errors import MollmError


class LabelStudioError(MollmError):
    """Label Studio answered in a way that this call cannot use; the same call would fail again.

    `what` and `fix` are the message's two halves: what was wrong, and what to do about it.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what}: {fix}." if fix else what)
        self.what = what
        self.fix = fix


class LabelStudioDown(LabelStudioError):
    """Label Studio cannot be reached, or broke off; the same call may succeed later."""


class LabelStudioRefused(LabelStudioError):
    """The token is missing, wrong, expired, of a kind that is switched off, or may not do this."""


class PrivateAddress(LabelStudioError):
    """Label Studio's guard forbids it to talk to the address that it was given."""


class LabelStudioNotFound(LabelStudioError):
    """What was asked for is not there (any more)."""


class LabelsWouldVanish(MollmError):
    """A pass would take away more labels than may go without a person's word."""


class OtherProject(MollmError):
    """The server or the project is not the one that was connected (restored backup, other host, same number)."""
