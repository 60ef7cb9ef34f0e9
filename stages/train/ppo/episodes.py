"""Sampled training episodes for people: as JSON lines, as plain text, and as one page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from stages.shared.files import read_rows, write_text
from stages.train.ppo.record import SAMPLES

Sample = Mapping[str, Any]
"""As `manager.keep_samples` writes it."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Training episodes</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
details { border: 1px solid #8886; border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer } .numbers { opacity: .75; font-variant-numeric: tabular-nums }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; padding: .3rem .6rem; border-left: 3px solid }
.policy { border-color: #3b82f6 } .candidate { border-color: #f59e0b; opacity: .85 } .fault { color: #dc2626 }
</style>
<h1>Training episodes</h1>
<p>{{ samples|length }} of those that the policy played, a few a step. Blue: what the policy wrote. Amber: what it was
told. Costs are millionths of a dollar.</p>
{% for step, group in samples|groupby("step") %}<h2>Step {{ step }}</h2>
{% for sample in group %}<details><summary>{{ sample.question }} <span class="numbers">{{ headline(sample) }}</span>
</summary>
{% for wrote, told in sample.turns %}<pre class="policy">{{ wrote }}</pre>
{% if told %}<pre class="candidate">{{ told }}</pre>
{% endif %}{% endfor %}<p>Answer: {{ sample.answer if sample.answer is not none else "none" }}. Right would be:
{{ sample.answers|join(" or ") }}. {{ sample.ending }}.</p>
{% for call in sample.calls %}<p class="numbers">{{ call.shown }}{% if call.shown != call.name %} is {{ call.name }}
{% endif %}: {{ call.outcome }}, {{ "%.1f"|format(call.cost) }}</p>
{% endfor %}{% for fault in sample.faults %}<p class="fault">{{ fault }}</p>
{% endfor %}</details>
{% endfor %}{% endfor %}</html>
"""


def read_episodes(folder: Path) -> list[Sample]:
    """The samples of a run folder, in order of steps; a line that a crash cut short is left out."""
    return list(read_rows(folder / SAMPLES))


def write_episodes(folder: Path, samples: Sequence[Sample]) -> None:
    """episodes.jsonl, episodes.txt and episodes.html."""
    write_text(folder / SAMPLES, "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples))
    write_text(folder / "episodes.txt", "\n".join(as_text(sample) for sample in samples))
    template = Environment(autoescape=True).from_string(PAGE)
    write_text(folder / "episodes.html", template.render(samples=samples, headline=headline))


def headline(sample: Sample) -> str:
    """What an episode came to, in a line."""
    reward = sample["reward"]
    total = "no reward: a candidate failed" if reward["total"] is None else f"reward {reward['total']:.2f}"
    parts = f"format {reward['format']:.0f}, outcome {reward['outcome']:.2f}, cost term {reward['cost_term']:.2f}"
    return f"{total} ({parts}), EM {reward['em']:.0f}, cost {reward['cost']:.1f}, {len(sample['calls'])} calls"


def as_text(sample: Sample) -> str:
    """One episode as plain text."""
    played = "".join(part for turn in sample["turns"] for part in turn)
    faults = "".join(f"fault: {fault}\n" for fault in sample["faults"])
    gold = " or ".join(sample["answers"])
    return (
        f"--- step {sample['step']}: {headline(sample)}\n{sample['question']}\n(right: {gold})\n\n"
        f"{played.strip()}\n{faults}"
    )
