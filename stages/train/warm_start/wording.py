"""What a teacher writes in an episode besides its calls: the turns of demonstrations and of pre-training alike."""

from __future__ import annotations

from collections.abc import Sequence

from stages.shared.episode.protocol import neutralise, observation

DONE, IT, NOT_FOUND = "done", "it", "unknown"
"""What ends an episode, what stands for an answer that is not known yet, and for one that nobody knew."""


def answer_turn(answer: str, thought: str = DONE) -> str:
    """The last turn in the compact style."""
    return f"<think> {thought} </think> <answer> {answer} </answer>"


def comparison_thought(found: Sequence[str], subjects: Sequence[str], answer: str) -> str:
    """What decides a comparison: what was found, each of its subject; of numbers also the higher one, and whose it is.

    A small policy binds a number to its subject by saying both side by side, and then copies the pair.
    """
    facts = " , ".join(f"{value} {subject}" for value, subject in zip(found, subjects, strict=True))
    if all(value.isdecimal() for value in found):
        return f"{facts} , higher {max(found, key=int)} {answer}"
    return f"compare {facts}"


def observation_text(reply: str) -> str:
    """A candidate's reply as the policy sees it, before any cut."""
    return observation(neutralise(reply))


def prose_answer_turn(answer: str, found: Sequence[str] = ()) -> str:
    """The last turn in the prose style; `found` is what a comparison was made of."""
    thought = f"Comparing {' and '.join(found)} gives the answer." if found else "The reply gives the answer."
    return f"<think> {thought} </think>\n<answer> {answer} </answer>"
