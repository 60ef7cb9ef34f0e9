"""A full disk, told as one, wherever in a flow it shows."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.dvc_errors import ROOM
from stages.shared.errors import BudgetError


@contextmanager
def full_disk_told(root: Path) -> Iterator[None]:
    """Raise BudgetError, with the file and the way out, where the block fails for want of space below `root`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BudgetError(f"no disk space left, writing {error.filename or root}; {ROOM}") from error
