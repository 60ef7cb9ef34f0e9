"""Coverage-guided fuzzing of what reads text from outside: responses, turns, replies, whole episodes and their reward,
the ledger, files of questions, parameters.

`python tests/bench/fuzz.py --seconds 60` (not a measurement: `make bench` runs ten seconds of it). It starts from
tests/faults/corpus, keeps what it learns under .pointsman/bench/fuzz, and stops at the first input that breaks a law,
whose file it names: copy it into the corpus with the fix. Needs atheris:
`pip install --target .pointsman/bench/atheris atheris`; says so and ends where that is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[2]
ATHERIS = ROOT / ".pointsman" / "bench" / "atheris"
FOUND = ROOT / ".pointsman" / "bench" / "fuzz"
CORPUS = ROOT / "tests" / "faults" / "corpus"
LONGEST = 4096
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
sys.path[:0] = [str(ROOT), str(ATHERIS), str(ROOT / "tests" / "faults")]


def laws(data: bytes) -> None:
    """Everything that must hold of any bytes from outside."""
    from stages.shared.episode.protocol import CallRequest, Invalid, neutralise, parse_turn, without_end_tokens
    from stages.shared.errors import IntegrityError
    from stages.shared.pool.attempt import completion, retry_after_s
    from stages.shared.pool.candidate import Candidate
    from stages.shared.pool.journal import Journal
    from stages.shared.scoring import exact_match, f1

    candidate = Candidate("A", "m", "http://127.0.0.1/v1", 1.0, 1.0)
    text = data.decode("utf-8", "replace")
    for code in (200, 429):
        attempt = completion(code, {"Retry-After": text, "openai-processing-ms": text}, data, candidate)
        assert attempt.reply.prompt_tokens >= 0 <= attempt.reply.completion_tokens
        assert attempt.reply.detail.isprintable() or code == 200
        attempt.reply.text.encode()
    assert (retry_after_s({"Retry-After": text}) or 0.0) >= 0.0
    inert = neutralise(text)
    assert neutralise(inert) == inert
    assert isinstance(parse_turn(f"<think> x </think> {inert}"), Invalid)
    action = parse_turn(text)
    assert not isinstance(action, CallRequest) or (action.shown and action.query)
    without_end_tokens(text)
    assert 0.0 <= f1(text, (text,)) <= 1.0
    assert exact_match(text, (text,)) in (0.0, 1.0)
    play(text)
    read(data)
    with tempfile.NamedTemporaryFile(dir=MEMORY) as file:
        file.write(data)
        file.flush()
        try:
            with Journal(Path(file.name), lambda row, place, length: None) as journal:
                journal.catch_up()
        except IntegrityError:
            pass


def play(text: str) -> None:
    """An episode in which the policy writes this, and every candidate says it."""
    from campaign import DESCRIPTORS, EPISODE, Characters

    from stages.shared.episode.driver import run_episode
    from stages.shared.episode.normaliser import CostNormaliser
    from stages.shared.episode.reward import score
    from stages.shared.episode.roster import make_roster
    from stages.shared.episode.types import Generation
    from stages.shared.params import RewardParams
    from stages.shared.pool.candidate import Candidate, Outcome, Reply

    wrote, _, said = text.partition("\n\n")

    class Said:
        candidates: ClassVar = {each.name: Candidate(each.name, "m", "", 1.0, 1.0) for each in DESCRIPTORS}

        async def ask(self, name: str, query: str) -> Reply:
            assert "secret" not in query
            return Reply(said or text, Outcome.ANSWERED, 3, 3)

    async def policy(context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        ends = [wrote.find(each) + len(each) for each in stop if each in wrote]
        return Generation(tuple(map(ord, wrote[: min([*ends, max_tokens])])), None, "stop" if ends else "length")

    words = Characters()
    prompt = words.encode("question : secret\n")
    episode = asyncio.run(run_episode(prompt, make_roster(DESCRIPTORS), policy, Said(), words, EPISODE))
    assert len(episode.response_ids) == len(episode.response_mask) <= EPISODE.response_tokens
    assert len(episode.turns) <= EPISODE.max_calls + 1
    reward = score(episode, ("belane",), RewardParams(), CostNormaliser(8))
    assert reward.total is not None
    assert -1.0 <= reward.total <= 1.0
    assert reward.em == 0.0 or "belane" in wrote.casefold(), "an answer that the policy did not write"


def read(data: bytes) -> None:
    """A file of questions, and one of parameters, that hold this."""
    from stages.ingest.rows import read_file
    from stages.shared.errors import PipelineError
    from stages.shared.params import load_params

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        for name in ("rows.jsonl", "rows.json", "params.yaml"):
            (path := Path(folder) / name).write_bytes(data)
            with suppress(PipelineError):
                load_params(path) if path.suffix == ".yaml" else read_file(path, "nq", "train")


def main() -> None:
    """Fuzz for so many seconds."""
    parser = argparse.ArgumentParser(description="Fuzz what reads text from outside.")
    parser.add_argument("--seconds", type=int, default=10)
    seconds = parser.parse_args().seconds
    if importlib.util.find_spec("atheris") is None:
        print(f"fuzz: atheris is missing: pip install --target {ATHERIS.relative_to(ROOT)} atheris")
        return
    import atheris

    with atheris.instrument_imports(include=["stages.shared", "json"]):
        laws(b"{}")
    FOUND.mkdir(parents=True, exist_ok=True)
    os.chdir(FOUND)
    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(FOUND), str(CORPUS), *options], laws)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
