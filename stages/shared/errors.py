"""What can go wrong, by kind: the kind decides the exit code and whether a flow may try again."""

from __future__ import annotations


class PipelineError(Exception):
    """A failure that a person can act on. The message says what was wrong, where, and what to do."""

    kind = "pipeline"
    retryable = False
    exit_code = 1


class ConfigurationError(PipelineError, ValueError):
    """A parameter, path, key or endpoint that the user has to change."""

    kind = "configuration"
    exit_code = 2


class DataError(PipelineError, ValueError):
    """Input data that cannot be used: malformed, empty, leaking."""

    kind = "data"


class TransientError(PipelineError, ConnectionError):
    """Something outside was unavailable for now; the same command may succeed later."""

    kind = "transient"
    retryable = True


class BudgetError(PipelineError):
    """Going on would spend more than allowed: money, time, tokens or disk."""

    kind = "budget"


class IntegrityError(PipelineError):
    """An artifact is not what its manifest says it is."""

    kind = "integrity"


class ConflictError(PipelineError):
    """Somebody else changed the same thing first."""

    kind = "conflict"
    retryable = True
