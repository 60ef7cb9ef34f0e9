"""Coverage-guided fuzzing of what reads text from outside: responses, turns, replies, the ledger.

`python tests/bench/fuzz.py --seconds 60` (not a measurement: `make bench` runs ten seconds of it). It starts from
tests/faults/corpus, keeps what it learns under .pointsman/bench/fuzz, and stops at the first input that breaks a law,
whose file it names: copy it into the corpus with the fix. Needs atheris:
`pip install --target .pointsman/bench/atheris atheris`; says so and ends where that is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ATHERIS = ROOT / ".pointsman" / "bench" / "atheris"
FOUND = ROOT / ".pointsman" / "bench" / "fuzz"
CORPUS = ROOT / "tests" / "faults" / "corpus"
LONGEST = 4096
sys.path[:0] = [str(ROOT), str(ATHERIS)]


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
    with tempfile.NamedTemporaryFile(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as file:
        file.write(data)
        file.flush()
        try:
            with Journal(Path(file.name), lambda row, place, length: None) as journal:
                journal.catch_up()
        except IntegrityError:
            pass


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
