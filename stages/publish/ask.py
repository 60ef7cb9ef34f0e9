"""Ask a release a question: `python -m stages.publish.ask "..."`, and `pointsman ask`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.publish.answer import MILLIONTH, Watcher, answer, refuse_empty, release_params, rerouted, thoughts, unclear
from stages.publish.fetch import fetch_release, verify_release
from stages.publish.manifest import DIGEST
from stages.publish.promotion import find, open_desk
from stages.publish.receipt import read_receipt
from stages.shared.entry import run_stage
from stages.shared.episode.protocol import CallRequest, Invalid, neutralise, parse_turn
from stages.shared.episode.types import Episode
from stages.shared.params import EvaluateParams, Params
from stages.shared.pool.candidate import Candidate, Reply
from stages.shared.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, answer, print; return the exit code."""
    parser = argparse.ArgumentParser(prog="pointsman ask", description="Ask the published router a question.")
    parser.add_argument("question")
    parser.add_argument(
        "--release", help="channel, digest, its first digits, or `latest` (default: published last here)"
    )
    parser.add_argument("--json", action="store_true", help="print the whole episode as JSON")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameters (default: %(default)s)")
    given = parser.parse_args(argv)
    return run_stage(
        "ask",
        lambda params, workspace: ask(given.question, given.release, given.json, params, workspace),
        ["--params", str(given.params)],
    )


def ask(question: str, release: str | None, as_json: bool, params: Params, workspace: Workspace) -> None:
    """Answer with a verified release, and print the episode: as it unfolds, or as JSON when it is over."""
    refuse_empty([question])
    digest, folder = obtain(release, params, workspace)
    if as_json:
        episode = answer(question, folder, workspace)
        record = as_record(question, digest, episode, release_params(folder).evaluate)
        print(json.dumps(record, indent=2))
        return
    screen = Screen.plain()
    screen.begin(digest, verify_release(folder, digest).synthetic)
    screen.end(answer(question, folder, workspace, screen), release_params(folder).evaluate)


def obtain(release: str | None, params: Params, workspace: Workspace) -> tuple[str, Path]:
    """The digest and the verified folder of a release, downloaded where it is not here yet.

    Raises ConfigurationError when there is no such release, IntegrityError when it is not what its name says.
    """
    receipt = read_receipt(workspace)
    name = release or (receipt.digest if receipt else "latest")
    cache = workspace.state / "releases"
    if DIGEST.fullmatch(name) and (cache / name).is_dir():
        verify_release(cache / name, name)
        return name, cache / name
    with open_desk(params, workspace) as desk:
        found = find(desk, name)
        folder = cache / found.digest
        if folder.is_dir():
            verify_release(folder, found.digest)
        else:
            fetch_release(desk.store, found.digest, folder, found.signed)
    return found.digest, folder


@dataclass(frozen=True)
class Bill:
    """What an episode cost, millionths of a dollar, by the prices that its release was evaluated with."""

    calls: float
    """The candidates, their prompt tokens included."""
    read: int
    """Tokens that the policy read: its prompt and the replies, each once."""
    written: int
    own: float
    """The policy's own tokens."""

    @classmethod
    def of(cls, episode: Episode, prices: EvaluateParams) -> Bill:
        """The bill of an episode."""
        written = sum(episode.response_mask)
        read = len(episode.prompt_ids) + len(episode.response_mask) - written
        own = read * prices.router_prompt_price + written * prices.router_price
        return cls(sum(call.cost_total for call in episode.calls), read, written, own)

    @property
    def total(self) -> float:
        """Everything."""
        return self.calls + self.own


def as_record(question: str, digest: str, episode: Episode, prices: EvaluateParams) -> dict[str, Any]:
    """An episode for machines. Costs in millionths of a dollar, named as in metrics/evaluate.json."""
    calls, bill = [turn.call for turn in episode.turns], Bill.of(episode, prices)
    return {
        "release": digest,
        "question": question,
        "answer": episode.answer,
        "ending": episode.ending,
        "well_formed": episode.well_formed,
        "cost": episode.cost,
        "cost_total": bill.total,
        "own_cost": bill.own,
        "own_tokens": bill.written,
        "own_read": bill.read,
        "turns": [
            {
                "text": turn.text,
                "call": call and {
                    "candidate": call.name, "query": call.query, "reply": call.reply.text,
                    "outcome": call.reply.outcome, "latency_s": call.reply.latency_s,
                    "cost": call.cost, "cost_total": call.cost_total, "answered_by": call.answered_by,
                },
            }
            for turn, call in zip(episode.turns, calls, strict=True)
        ],
    }  # fmt: skip


@dataclass
class Screen(Watcher):
    """Prints an episode for a person."""

    console: Console
    calls: int = field(default=0)

    @classmethod
    def plain(cls) -> Screen:
        """A screen on standard output."""
        from rich.console import Console

        return cls(Console(highlight=False, markup=False, emoji=False, soft_wrap=True))

    def begin(self, digest: str, synthetic: bool) -> None:
        """Say who answers."""
        note = ", synthetic: invented questions, simulated experts" if synthetic else ""
        self.console.print(f"release {digest[:16]}{note}", style="dim")

    def wrote(self, text: str) -> None:
        """Print the thoughts of a turn, and what it asks of whom."""
        for thought in thoughts(text):
            self.console.print(thought, style="italic dim")
        action = parse_turn(text)
        if isinstance(action, CallRequest):
            self.console.print(f"→ {neutralise(action.shown)}: {neutralise(action.query)}", style="cyan")
        elif isinstance(action, Invalid):
            self.console.print(f"? {unclear(action.reason, text)}", style="yellow")

    def replied(self, candidate: Candidate, reply: Reply) -> None:
        """Print a reply, its price and its time."""
        failed = reply.outcome.is_failure
        text = reply.outcome if failed else neutralise(reply.text)
        price = f"{rerouted(candidate, reply)}{dollars(reply.cost(candidate))}, {reply.latency_s:.2f} s"
        self.console.print(f"← {text}  ({price})", style="red" if failed else "green")

    def end(self, episode: Episode, prices: EvaluateParams) -> None:
        """Print the answer and what it cost."""
        if episode.answer is None:
            self.console.print(f"no answer ({episode.ending})", style="bold red")
        else:
            self.console.print(f"answer: {neutralise(episode.answer) or '(empty)'}", style="bold")
        total = Bill.of(episode, prices).total
        calls = f"{len(episode.calls)} call{'' if len(episode.calls) == 1 else 's'}"
        said = f"{calls}, {dollars(episode.cost)}, with prompt tokens and the router's own {dollars(total)}"
        self.console.print(said, style="dim")


def dollars(millionths: float) -> str:
    """A cost for people: `$0.000012`."""
    return f"${millionths * MILLIONTH:.6f}"


if __name__ == "__main__":
    raise SystemExit(main())
