"""What a candidate is told beside the sub-question (paper, appendix: candidates' prompt)."""

from __future__ import annotations

_TASK = (
    "Another language model is working on a question and asks you for help with one part of it. "
    "Answer that part briefly. If you cannot answer it outright, give the context you are sure of. "
    "If you cannot help at all, say so."
)
_MARK = "Sub-question:"


def candidate_message(query: str) -> str:
    """The single user message for a candidate."""
    return f"{_TASK}\n\n{_MARK} {query}"


def sub_question(message: str) -> str:
    """The query inside `candidate_message`, or the message itself where it is bare."""
    head = f"{_TASK}\n\n{_MARK} "
    return message.removeprefix(head)
