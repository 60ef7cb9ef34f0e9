"""What every test may rely on."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _environment_as_found() -> Iterator[None]:
    """Libraries are told to stay offline through the environment; the next test does not inherit that."""
    found = dict(os.environ)
    yield
    for name in set(os.environ) - set(found):
        del os.environ[name]
    os.environ.update(found)
