"""Who takes part: the router, its baselines and controls, and the bound, on the seen pool and on all candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stages.evaluate.attempt import Attempt, Result
from stages.evaluate.marking import Marker
from stages.evaluate.measure import Line, Measurement, Table, distinct_parts
from stages.evaluate.oracle import Probe, best_attempt
from stages.evaluate.reading import exchanges
from stages.evaluate.records import Record
from stages.evaluate.routers.chance import RandomRouter
from stages.evaluate.routers.fixed import fixed, largest
from stages.evaluate.routers.knn import Encoder, fit_knn
from stages.evaluate.routers.protocol import Router
from stages.shared.params import EvaluateParams
from stages.shared.questions import Question
from stages.shared.scoring import contains


@dataclass(frozen=True)
class Contest:
    """One evaluation: the first line is the seen pool; a second one, if any, all candidates."""

    questions: Sequence[Question]
    lines: Sequence[Line]
    records: Sequence[Record]
    """Of the profile: all that a baseline may learn from."""
    params: EvaluateParams
    encode: Encoder
    marker: Marker

    @property
    def size(self) -> int:
        """Episodes and calls to come, for a progress bar."""
        widest = self.lines[-1]
        episodes = len(self.questions) * (len(widest.names) + 2 + 2 * len(self.lines) + len(self.forced))
        others = len(exchanges(self.questions, self.lines[0].roster))
        return episodes + others + len(distinct_parts(self.questions)) * len(widest.names)

    @property
    def forced(self) -> tuple[str, ...]:
        """The seen candidates onto which the trained policy is forced, one after the other."""
        names = self.lines[0].names
        strongest = best_measured(self.records, names)
        return {"best": (strongest,), "all": names, "none": ()}[self.params.forced]

    async def run(self, measurement: Measurement) -> list[Result]:
        """Every method's result for every question."""
        table = await measurement.table(self.lines)
        alone = await measurement.direct(self.lines[0])
        results: list[Result] = []
        for line in self.lines:
            results += await self._line(measurement, line, table, alone)
        for candidate in self.forced:
            attempts = await measurement.forced(self.lines[0], candidate)
            results += self.marker.mark(f"forced:{candidate}", "seen", attempts)
        results += self.marker.mark("one-call", "seen", await measurement.capped(self.lines[0]))
        return results

    async def _line(self, measurement: Measurement, line: Line, table: Table, alone: Sequence[Attempt]) -> list[Result]:
        before = await measurement.before_ppo(line)
        attempts = {
            "router": await measurement.router(line),
            "warm-start": before,
            "direct": alone,
            "prompt-llm": prompted(before, table, alone),
            "oracle": self._oracle(line, table),
        }
        for router in self._routers(line):
            choices = router.choose(self.questions)
            attempts[router.method] = [table.attempt(*pair) for pair in zip(self.questions, choices, strict=True)]
        return [item for method, group in attempts.items() for item in self.marker.mark(method, line.pool, group)]

    def _routers(self, line: Line) -> list[Router]:
        return [
            *(fixed(candidate) for candidate in line.candidates),
            largest(line.candidates),
            RandomRouter(line.names, self.params.seed),
            fit_knn(self.records, line.names, self.encode, self.params.neighbours),
        ]

    def _oracle(self, line: Line, table: Table) -> list[Attempt]:
        pairs = [(question, name) for question in self.questions for name in line.names]
        marks = self.marker.marks([(table.attempt(*pair).prediction, pair[0].answers) for pair in pairs])
        exact = {(question.id, name): em == 1.0 for (question, name), (em, _) in zip(pairs, marks, strict=True)}
        return [self._best(question, line, table, exact) for question in self.questions]

    def _best(self, question: Question, line: Line, table: Table, exact: Mapping[tuple[str, str], bool]) -> Attempt:
        direct = []
        for name in line.names:
            call = table.calls[question.id, name]
            right = exact[question.id, name] or tells(question, call.reply)
            direct.append(Probe(name, right, call.attempt.cost, call.attempt.cost_calls))
        parts = [[table.parts[part.question, name] for name in line.names] for part in question.parts]
        return best_attempt(question, direct, parts)


def best_measured(records: Sequence[Record], names: Sequence[str]) -> str:
    """The candidate with the most right replies in the profile: chosen without a look at the test sets."""
    return max(names, key=lambda name: sum(record.contains for record in records if record.candidate == name))


def tells(question: Question, reply: str) -> bool:
    """Whether a reply holds a gold answer that the question does not hold already, as a comparison's does."""
    return contains(reply, question.answers) and not contains(question.question, question.answers)


def prompted(before: Sequence[Attempt], table: Table, alone: Sequence[Attempt]) -> list[Attempt]:
    """Prompt LLM: the candidate that the base policy names first gets the question; without one, it is alone.

    What the policy wrote to choose is its own cost beside that of answering.
    """
    pairs = [
        (episode, table.attempt(episode.question, episode.called[0]) if episode.called else direct)
        for episode, direct in zip(before, alone, strict=True)
    ]
    return [replace(found, own=found.own + episode.choosing) for episode, found in pairs]
