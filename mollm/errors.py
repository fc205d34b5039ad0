"""One family of errors. Every message names the cause and says what to do about it."""


class MollmError(Exception):
    """Base of every error that mollm raises on purpose; its message may be shown to a user."""


class ConfigError(MollmError):
    """A setting, a panel file or a label set that cannot be used as it is written."""


class InputError(MollmError, ValueError):
    """Data (texts, signals, labels, a recording) that breaks the contract of what was called; a ValueError, too."""


class AnnotatorError(MollmError):
    """An LLM runtime answered in a way that cannot be used; the same call would fail again."""


class AnnotatorUnavailable(AnnotatorError):
    """An LLM runtime that cannot be reached now; its signal is recorded as missing and asked for later."""


class NotFittedError(MollmError):
    """A model was asked to predict before it was fitted or loaded."""


class ModelFileError(MollmError):
    """A model file that is missing, cut short, or made for another panel or label set."""


class StoreError(MollmError):
    """The database refused, or holds something that this version cannot read."""


class AlertError(MollmError):
    """An alert did not reach its receiver; it is sent again later."""
