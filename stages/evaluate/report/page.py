"""report.html: one file that needs nothing else, and in which foreign text can do nothing."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.evaluate.methods import describe
from stages.evaluate.metrics import AVERAGE, ROUTER, Evaluation
from stages.evaluate.report import charts, published, view
from stages.evaluate.report.curves import Curves, panels
from stages.evaluate.report.examples import Example
from stages.evaluate.report.reliability import reliabilities
from stages.shared.files import read_text
from stages.shared.params import Params
from stages.shared.pool.candidate import Descriptor

FOLDER = Path(__file__).parent
SECTIONS = {"profile_name", "world", "ingest", "pool", "episode", "evaluate"}


@dataclass(frozen=True)
class Material:
    """Everything that the report is made of."""

    params: Params
    evaluation: Evaluation
    examples: Sequence[Example]
    """Of the router's episodes with the seen pool."""
    episodes: int
    """How many there are."""
    descriptors: Sequence[Descriptor]
    curves: Curves
    ledger: str = ""
    """SHA-256 of episodes.parquet."""


def render(material: Material) -> str:
    """The report as HTML. Only the page's own style and script may act, by their hashes; all else is inert text."""
    evaluation, router = material.evaluation, material.evaluation.router
    style, script = _asset("style.css"), _asset("script.js")
    page = _environment().get_template("page.html.j2")
    return page.render(
        title=f"Pointsman · {material.params.profile_name}",
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        params=material.params,
        settings=_settings(material.params),
        evaluation=evaluation,
        router=router,
        ours=evaluation.methods[ROUTER][AVERAGE],
        oracle=evaluation.methods["oracle"][AVERAGE],
        rival=describe(router.best_baseline),
        rival_cell=evaluation.methods[router.best_baseline][AVERAGE],
        describe=describe,
        verdict=view.verdict(evaluation),
        rows=view.rows(evaluation.methods, router.versus),
        datasets=[*evaluation.methods[ROUTER]],
        reply_rows=view.reply_rows(evaluation),
        scatter=view.scatter(evaluation.methods),
        calls=view.calls(evaluation.methods),
        pairs=published.beside(evaluation.methods),
        priced=published.beside_costs(evaluation.methods),
        setting=published.differs(material.params.profile_name, router.synthetic),
        names=[descriptor.name for descriptor in material.descriptors],
        stack=charts.stack,
        pairwise=itertools.pairwise,
        call_counts=sorted({count for share in router.calls_by_hops.values() for count in share}, key=int),
        most_entropy=math.log2(max(1, len(router.share))),
        descriptors=material.descriptors,
        leaders=view.leaders(material.descriptors),
        unseen_rows=view.rows(router.unseen.methods, {}) if router.unseen else [],
        panels=panels(material.curves),
        reliabilities=reliabilities(evaluation.calibration),
        ledger=material.ledger,
        examples=material.examples,
        episodes=material.episodes,
    )


def _settings(params: Params) -> str:
    """The sections of params.yaml that this stage depends on."""
    return yaml.safe_dump(params.model_dump(mode="json", include=SECTIONS), sort_keys=False)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": view.percent, "points": view.points}
    return environment


def _policy(style: str, script: str) -> str:
    """Content security policy: this style, this script, nothing from anywhere."""
    own = f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return read_text(FOLDER / name)
