"""What a disk that takes no more is told as: one line with its remedy."""

from __future__ import annotations

import errno

_REMEDIES = {
    errno.ENOSPC: "free some space; what was being written is written again",
    errno.EDQUOT: "free some space or raise the quota; what was being written is written again",
    errno.EROFS: "make it writable, or set MOLLM_HOME to another directory",
    errno.EACCES: "give this user the right to it, or set MOLLM_HOME to another directory",
    errno.EPERM: "give this user the right to it, or set MOLLM_HOME to another directory",
}


def told(error: OSError) -> str:
    """The error in words, with what to do; "" where it is none of the disk's."""
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return ""
    return f"{error.filename or 'the disk'} cannot be written ({error.strerror}): {remedy}."
