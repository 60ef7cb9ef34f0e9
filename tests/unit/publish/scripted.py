"""A policy that plays a script; run as a program, the server with that policy."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from stages.shared.episode.protocol import UNAVAILABLE
from stages.shared.episode.types import Generate, Generation


class Scripted:
    """In place of the generator: asks Arlix the question and gives its reply back, unless the question says else.

    It loads nothing and knows no questions: what is tested is the server around it. A question that names Bomon goes to
    Bomon, and to Arlix where Bomon is not to be had.
    """

    def __init__(self, model: Any, tokenizer: Any, max_rows: int) -> None:
        self.tokenizer = tokenizer

    async def __aenter__(self) -> Scripted:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def sampler(self) -> Generate:
        async def generate(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
            heard = self.tokenizer.decode(list(context))
            question = heard.split("question :")[1].split("<|im_end|>")[0].strip()
            replies = [each.split("</information>")[0].strip() for each in heard.split("<information>")[1:]]
            spurned = "bomon" in question and replies == [UNAVAILABLE]
            if "crash" in question:
                raise RuntimeError("out of luck")
            if "ponder" in question:
                text = "<think> who knows </think>"
            elif replies and "insist" not in question and not spurned:
                text = f"<think> done </think> <answer> {replies[-1]} </answer>"
            else:
                name = "Bomon" if "bomon" in question and not replies else "Arlix"
                text = f"<think> best is {name} </think> <search> {name} : {question} </search>"
            return Generation(tuple(self.tokenizer.encode(text, add_special_tokens=False))[:max_tokens], None, "stop")

        return generate


if __name__ == "__main__":
    from stages.publish.serving.__main__ import main
    from stages.shared import batching

    batching.BatchedGenerator = Scripted  # type: ignore[assignment, misc]
    raise SystemExit(main())
