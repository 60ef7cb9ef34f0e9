"""Named parameter sets: infra/profiles/NAME.yaml, written into params.yaml."""

from __future__ import annotations

import difflib
from pathlib import Path

from stages.shared.errors import ConfigurationError
from stages.shared.files import read_text, write_text
from stages.shared.params import load_params

FOLDER = Path("infra") / "profiles"
BEFORE = Path(".pointsman") / "params.before.yaml"


def profile_names(root: Path) -> tuple[str, ...]:
    """Every profile that `use` knows, in alphabetical order."""
    return tuple(sorted(path.stem for path in (root / FOLDER).glob("*.yaml")))


def profile_path(root: Path, name: str) -> Path:
    """The file of a profile. Raises ConfigurationError for an unknown name."""
    if name not in profile_names(root):
        raise ConfigurationError(f"no profile is called {name!r}; there are: {', '.join(profile_names(root))}")
    return root / FOLDER / f"{name}.yaml"


def use_profile(root: Path, name: str) -> list[str]:
    """Write a profile into params.yaml, comments and all, and return what changed as lines of a unified diff.

    The former file is kept at `.pointsman/params.before.yaml`. Raises ConfigurationError for an unknown name or a
    profile that does not parse, before anything is written.
    """
    source, target = profile_path(root, name), root / "params.yaml"
    load_params(source)
    new, old = read_text(source), read_text(target) if target.exists() else ""
    if new == old:
        return []
    if old:
        write_text(root / BEFORE, old)
    write_text(target, new)
    names = ("params.yaml (before)", "params.yaml")
    return list(difflib.unified_diff(old.splitlines(), new.splitlines(), *names, n=1, lineterm=""))
