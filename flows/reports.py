"""Reports of runs, where a person in Prefect's UI can open them: `pointsman up` serves their folder on loopback."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stages.shared.files import atomic_path, read_json

REPORTS_URL = "POINTSMAN_REPORTS_URL"
"""The environment variable that says where a browser finds the folder."""
PAGES = {
    "report": "artifacts/evaluate/report.html",
    "episodes": "artifacts/train/episodes.html",
}
TITLES = {"report": "The evaluation's report", "episodes": "Sampled episodes of the training"}


def reports_folder(checkout: Path) -> Path:
    """Of a checkout; what its clones made is kept here too."""
    return checkout / ".pointsman" / "reports"


def keep_reports(root: Path, checkout: Path, run: str) -> list[str]:
    """Copy the pages that a run left in `root`; a link in Markdown each, or a path where nothing serves them."""
    links = []
    for name, place in PAGES.items():
        if not (root / place).is_file():
            continue
        kept = reports_folder(checkout) / f"{run}-{name}.html"
        with atomic_path(kept) as part:
            shutil.copyfile(root / place, part)
        url = os.environ.get(REPORTS_URL)
        links.append(f"[{TITLES[name]}]({url}/{kept.name})" if url else f"{TITLES[name]}: `{kept}`")
    return links


def release_told(root: Path) -> list[str]:
    """The release that a run published, and how it is promoted, in Markdown; nothing where it published none."""
    receipt = root / "artifacts" / "publish" / "release.json"
    if not receipt.is_file():
        return []
    digest = str(read_json(receipt)["digest"])[:12]
    return [
        f"Release `{digest}`: `pointsman show {digest}` tells what is in it. To let a channel serve it, run "
        f"the deployment **promote** with release `{digest}`, or `pointsman promote {digest} --to production`."
    ]
