"""A diff as one HTML file that needs nothing else, and in which foreign text can do nothing."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.evaluate.diff import text
from stages.evaluate.diff.compare import Diff
from stages.evaluate.report.transcript import pieces, visible
from stages.evaluate.report.view import percent
from stages.shared.files import read_text

FOLDER = Path(__file__).parent
STYLE = FOLDER.parent / "report" / "style.css"


def render(diff: Diff) -> str:
    """The whole diff with every flipped question, both episodes side by side. Only its own style may act."""
    style = read_text(STYLE)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader([FOLDER, STYLE.parent]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["percent"] = percent
    return environment.get_template("diff.html.j2").render(
        diff=diff,
        style=Markup(style),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        headline=text.headline(diff).replace("`", ""),
        headings=text.GAP_HEADINGS,
        cells=text.gap_cells,
        pieces=pieces,
        visible=visible,
        flips=text.pick(diff.flips, len(diff.flips)),
    )
