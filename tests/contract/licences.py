"""`python tests/contract/licences.py` writes infra/licences.tsv: what each locked package says of its licence."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "infra" / "licences.tsv"
BESIDE = ("torch", "uv")
"""Installed by infra/setup.sh with versions of its own."""
LONGEST = 80


def locked() -> dict[str, str]:
    """Package -> version, as requirements.lock pins them."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", "\n".join(lines), re.MULTILINE))


def said(name: str) -> str:
    """What an installed package says of its licence: as an expression, as a class, or in words. Raises KeyError."""
    try:
        metadata = distribution(name).metadata
    except PackageNotFoundError as error:
        raise KeyError(name) from error
    classes = [line.split("::")[-1].strip() for line in metadata.get_all("Classifier") or () if "License ::" in line]
    words = (metadata.get("License") or "").strip().splitlines()[:1]
    exact = [each for each in classes if each != "OSI Approved"]
    return metadata.get("License-Expression") or " AND ".join(exact) or "".join(words)[:LONGEST] or "unknown"


def read() -> dict[str, str]:
    """Package -> licence, by the table."""
    rows = TABLE.read_text(encoding="utf-8").splitlines()[1:]
    return dict(row.split("\t") for row in rows)


def main() -> None:
    """Write the table, of what is installed."""
    names = sorted({*locked(), *BESIDE})
    rows = ["package\tlicence", *(f"{name}\t{said(name)}" for name in names)]
    TABLE.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
