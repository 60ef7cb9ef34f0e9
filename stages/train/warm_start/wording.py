"""What a teacher writes in an episode, word for word: the turns of demonstrations and of pre-training alike."""

from __future__ import annotations

from collections.abc import Sequence

from stages.shared.episode.protocol import neutralise, observation

DONE, THEN, IT = "done", "then", "it"


def call_turn(topic: str, percent: int, shown: str, query: str, rest: Sequence[str] = ()) -> str:
    """A call in the compact style: the thought copies one cell of the prompt's table, and says what comes after.

    `rest` holds the steps that are still to come, with `it` for what is not known yet.
    """
    thought = " , ".join((lookup_thought(topic, percent, shown), *(f"{THEN} {step}" for step in rest)))
    return f"<think> {thought} </think> <search> {shown} : {query} </search>"


def lookup_thought(topic: str, percent: int, shown: str) -> str:
    """The cell that decides whom to call, as in `topic stone , 95 Arlix`."""
    return f"topic {topic} , {percent} {shown}"


def answer_turn(answer: str, thought: str = DONE) -> str:
    """The last turn in the compact style."""
    return f"<think> {thought} </think> <answer> {answer} </answer>"


def comparison_thought(found: Sequence[str], answer: str) -> str:
    """What decides a comparison: the higher number and who has it where numbers are compared, else what was found."""
    if all(value.isdecimal() for value in found):
        return f"higher {max(found, key=int)} {answer}"
    return f"compare {' , '.join(found)}"


def observation_text(reply: str) -> str:
    """A candidate's reply as the policy sees it, before any cut."""
    return observation(neutralise(reply))


def prose_call_turn(topic: str, skill: float | None, shown: str, query: str) -> str:
    """A call in the prose style: why help is needed, and which model fits. An unmeasured skill is None."""
    known = "may know it" if skill is None else f"answered {100 * skill:.0f}% of those right"
    thought = f"I do not know this for certain. It is a {topic} question, and {shown} {known}, so I ask {shown}."
    return f"<think> {thought} </think>\n<search> {shown}: {query} </search>"


def prose_answer_turn(answer: str, found: Sequence[str] = ()) -> str:
    """The last turn in the prose style; `found` is what a comparison was made of."""
    thought = f"Comparing {' and '.join(found)} gives the answer." if found else "The reply gives the answer."
    return f"<think> {thought} </think>\n<answer> {answer} </answer>"
