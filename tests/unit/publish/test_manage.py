"""A release manager's day at the command line, on a folder: promote on evidence, take back, verify, use."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest

from stages.publish.channels import event_key, pointer_key
from stages.publish.keys import blob_key, manifest_key
from stages.publish.manifest import FileEntry, Manifest
from stages.publish.release import Release, publish
from stages.publish.signature import load_public_key
from tests.unit.publish.repository import COMMIT, GATES, ROOT, Repository


def test_a_release_that_passes_its_gates_is_promoted_with_the_evidence(repository: Repository) -> None:
    digest = repository.publish(0.5)
    done = repository.json("promote", digest[:10], "--to", "production", "--reason", "first")
    assert done["changed"]
    event = done["event"]
    assert (event["digest"], event["actor"], event["reason"], event["override"]) == (digest, "ada", "first", None)
    assert [check["passed"] for check in event["evidence"]] == [True, True, True]
    assert repository.served() == digest


def test_a_release_that_fails_is_refused_naming_the_gates_and_nothing_changes(repository: Repository) -> None:
    good, worse = repository.publish(0.6), repository.publish(0.5)
    repository.run("promote", good, "--to", "production")
    repository.capsys.readouterr()
    assert repository.run("promote", worse, "--to", "production") == 1
    said = repository.capsys.readouterr()
    assert "FAILS" in said.out
    assert "router minus served: em on average: -0.1, not at least -0.02" in said.err
    assert repository.served() == good


def test_an_override_needs_a_reason_and_is_recorded(repository: Repository) -> None:
    digest = repository.publish(0.1)
    assert repository.run("promote", digest, "--to", "production", "--override", " ") == 2
    assert repository.served() is None
    event = repository.json("promote", digest, "--to", "production", "--override", "a fire")["event"]
    assert event["override"] == "a fire"
    assert [check["passed"] for check in event["evidence"]] == [False, True, True]
    repository.capsys.readouterr()
    repository.run("history", "production")
    assert "override: a fire" in repository.capsys.readouterr().out


def test_an_override_that_was_not_needed_is_not_recorded(repository: Repository) -> None:
    digest = repository.publish(0.5)
    assert (
        repository.json("promote", digest, "--to", "production", "--override", "why not")["event"]["override"] is None
    )


def test_a_dry_run_shows_the_evidence_and_changes_nothing(repository: Repository) -> None:
    good, bad = repository.publish(0.5), repository.publish(0.1)
    evidence = repository.json("promote", good, "--to", "production", "--dry-run")
    assert evidence["passed"]
    assert evidence["evidence"][0]["found"] == "0.5"
    repository.run("promote", good, "--to", "production", "--dry-run")
    assert "production would serve it, and serves nothing; nothing was changed" in repository.capsys.readouterr().out
    assert repository.run("promote", bad, "--to", "production", "--dry-run", "--json") == 1
    assert not json.loads(repository.capsys.readouterr().out)["passed"]
    assert repository.served() is None


def test_to_promote_what_is_served_changes_nothing(repository: Repository) -> None:
    digest = repository.publish(0.5)
    repository.run("promote", digest, "--to", "production")
    assert not repository.json("promote", digest, "--to", "production")["changed"]
    assert len(repository.json("history", "production")) == 1


def test_a_rollback_goes_back_past_any_gate_and_says_so_in_history(repository: Repository) -> None:
    first, second = repository.publish(0.5), repository.publish(0.6)
    for digest in (first, second):
        repository.run("promote", digest, "--to", "production")
    tried = repository.json("rollback", "production", "--dry-run")
    assert (tried["digest"], tried["event"]["digest"], repository.served()) == (first, second, second)
    event = repository.json("rollback", "production", "--reason", "complaints")["event"]
    assert (event["digest"], event["previous"], event["kind"]) == (first, second, "rollback")
    assert [each["sequence"] for each in repository.json("history", "production")] == [3, 2, 1]
    assert [repository.run("rollback", "production", *dry) for dry in ((), ("--dry-run",))] == [2, 2]
    assert repository.capsys.readouterr().err.count("no release to go back to") == 2


def test_a_rollback_to_what_no_server_would_take_is_refused(repository: Repository) -> None:
    """Else the channel would say that the bad release is gone, and every server would go on with it."""
    key = repository.workspace.root / "release.pem"
    repository.run("keys", str(key))
    repository.run("promote", repository.publish(0.5), "--to", "production")
    repository.policy(signed_by=("release.pem.pub",))
    bad = repository.publish(0.6, key)
    repository.run("promote", bad, "--to", "production")
    for options in ([], ["--dry-run"]):
        assert repository.run("rollback", "production", *options) == 1
        assert "not signed as required (by release.pem.pub), but by nobody" in repository.capsys.readouterr().err
    assert repository.served() == bad
    repository.publish(0.5, key)
    assert repository.run("rollback", "production") == 0


def test_a_move_says_how_it_is_taken_back(repository: Repository) -> None:
    first, second = repository.publish(0.5), repository.publish(0.6)
    repository.run("promote", first, "--to", "production")
    assert "Back:" not in repository.capsys.readouterr().out
    repository.run("promote", second, "--to", "production")
    assert "Back: pointsman rollback production" in repository.capsys.readouterr().out
    repository.run("rollback", "production")
    assert f"Back: pointsman promote {second[:16]} --to production" in repository.capsys.readouterr().out


def test_a_decision_holds_only_while_the_channel_stands_where_it_was_seen(repository: Repository) -> None:
    first, second = repository.publish(0.5), repository.publish(0.6)
    assert repository.json("promote", first, "--to", "production", "--expect", "0")["changed"]
    for command in (["promote", second, "--to", "production"], ["rollback", "production"]):
        assert repository.run(*command, "--expect", "0") == 1
        assert f"by ada to {first[:16]}" in repository.capsys.readouterr().err
    assert repository.served() == first


def test_a_release_goes_from_channel_to_channel(repository: Repository) -> None:
    digest = repository.publish(0.5)
    repository.run("promote", "latest", "--to", "staging")
    repository.run("promote", "staging", "--to", "production")
    assert repository.served() == digest
    (listed,) = repository.json("releases")
    assert listed["channels"] == ["production", "staging"]
    assert repository.json("show", "production")["digest"] == digest


def test_a_release_that_is_not_whole_is_not_promoted(repository: Repository) -> None:
    digest = repository.publish(0.5)
    repository.store.remove(blob_key(repository.manifest(digest).files["prompt.txt"].sha256))
    assert repository.run("promote", digest, "--to", "production") == 1
    assert "is not whole" in repository.capsys.readouterr().err
    assert repository.served() is None


def test_a_required_signature_gates_promotion_and_use(repository: Repository) -> None:
    root = repository.workspace.root
    for name in ("release", "other"):
        assert repository.run("keys", str(root / f"{name}.pem")) == 0
    repository.policy(*GATES, signed_by=("release.pem.pub",))
    unsigned, strange = repository.publish(0.5), repository.publish(0.51, root / "other.pem")
    for digest, found in ((unsigned, "none"), (strange, f"by key {load_public_key(root / 'other.pem.pub').id[:16]}")):
        assert repository.run("promote", digest, "--to", "production") == 1
        assert f"signature: {found}, not by release.pem.pub" in repository.capsys.readouterr().err
    signed = repository.publish(0.52, root / "release.pem")
    done = repository.json("promote", signed, "--to", "production")
    assert done["event"]["evidence"][-1]["found"] == "release.pem.pub", "not where this checkout happens to be"
    pulled = repository.json("pull", "production", "--to", str(root / "live"))
    assert pulled["signer"] == "release.pem.pub"
    assert (root / "live" / "model.sig").is_file()
    (path,) = (root / "store" / "signatures" / signed).iterdir()
    path.unlink()
    assert repository.run("pull", "production", "--to", str(root / "again")) == 1
    assert not (root / "again").exists()


def test_a_store_that_does_not_say_which_it_is_is_not_moved(repository: Repository) -> None:
    """The journal could not tell whose move it was, and the command would fail though it had moved the channel."""
    first, second = repository.publish(0.5), repository.publish(0.6)
    repository.run("promote", first, "--to", "production")
    (repository.workspace.root / "store" / "store.json").write_text("{}")
    assert repository.run("promote", second, "--to", "production") == 1
    assert repository.served() == first


def test_metrics_of_another_shape_hide_no_release(repository: Repository) -> None:
    """Whoever publishes past Pointsman leaves what they like."""
    repository.publish(0.5)
    odd = {"metrics/evaluate.json": b'{"methods": ["router"]}', "params.json": b"[]"}
    files = {name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)) for name, data in odd.items()}
    publish(Release(Manifest(synthetic=True, files=files), odd), repository.store)
    assert len(repository.json("releases")) == 2
    assert repository.run("show", "latest") == repository.run("releases") == 0


def test_a_flipped_byte_anywhere_is_found_by_verify_and_refused_by_pull(repository: Repository) -> None:
    root = repository.workspace.root
    repository.run("keys", str(root / "release.pem"))
    repository.policy(*GATES, signed_by=("release.pem.pub",))
    for em in (0.5, 0.6):
        repository.run("promote", repository.publish(em, root / "release.pem"), "--to", "production")
    assert repository.run("verify") == 0
    served = str(repository.served())
    used = {entry.sha256 for entry in repository.manifest(served).files.values()} | {f"{served}.json", "pointer.json"}
    files = [path for path in (root / "store").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > len(used) + 4
    for path in files:
        before = path.read_bytes()
        place = len(before) // 2
        path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        assert repository.run("verify") == 1, path
        if path.name in used or path.parent == root / "store" / "signatures" / served:
            assert repository.run("pull", "production", "--to", str(root / "live")) == 1, path
            assert not (root / "live").exists()
        path.write_bytes(before)
    assert repository.run("verify") == 0


def test_a_damaged_signature_is_found_though_nobody_trusts_its_maker(repository: Repository) -> None:
    root = repository.workspace.root
    repository.run("keys", str(root / "release.pem"))
    digest, other = repository.publish(0.5, root / "release.pem"), repository.publish(0.6, root / "release.pem")
    (path,) = (root / "store" / "signatures" / digest).iterdir()
    (others,) = (root / "store" / "signatures" / other).iterdir()
    assert repository.run("verify") == 0
    good = path.read_bytes()
    flipped = good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :]
    for bad in (flipped, b"junk", others.read_bytes()):
        path.write_bytes(bad)
        assert repository.run("verify") == repository.run("verify", digest) == 1
    path.write_bytes(good)
    path.rename(path.with_name(f"{'0' * 64}.json"))
    assert repository.run("verify") == 1
    assert "another has signed this than its name says" in repository.capsys.readouterr().out


def test_a_damaged_release_hides_no_other(repository: Repository) -> None:
    whole, damaged = repository.publish(0.5), repository.publish(0.6)
    repository.run("promote", damaged, "--to", "production")
    repository.store.remove(blob_key(repository.manifest(damaged).files["metrics/evaluate.json"].sha256))
    repository.capsys.readouterr()
    assert repository.run("releases") == 1
    said = repository.capsys.readouterr()
    lines = {digest: line for line in said.out.splitlines() for digest in (whole, damaged) if digest[:16] in line}
    assert "0.500" in lines[whole]
    assert "DAMAGED" in lines[damaged]
    assert "production" in lines[damaged]
    assert "lacks metrics/evaluate.json" in said.err
    assert repository.run("releases", "--json") == 1
    assert "fault" in json.loads(repository.capsys.readouterr().out)[0]
    assert repository.run("verify", "--json") == 1
    (fault,) = json.loads(repository.capsys.readouterr().out)["faults"]
    assert f"release {damaged[:16]}: " in fault


def test_a_served_release_that_is_gone_is_one_fault_among_others(repository: Repository) -> None:
    served, changed = repository.publish(0.5), repository.publish(0.6)
    repository.run("promote", served, "--to", "production")
    repository.store.remove(manifest_key(served))
    repository.store.remove(blob_key(repository.manifest(changed).files["metrics/evaluate.json"].sha256))
    repository.capsys.readouterr()
    assert repository.run("verify", "--json") == 1
    faults = json.loads(repository.capsys.readouterr().out)["faults"]
    for expected in (f"production serves {served[:16]}, which", f"release {changed[:16]}: "):
        assert sum(expected in fault for fault in faults) == 1
    assert repository.run("pull", "production") == 1


def test_a_pointer_that_was_damaged_is_made_whole_as_the_message_says(repository: Repository) -> None:
    repository.run("promote", repository.publish(0.5), "--to", "production")
    channels = repository.workspace.root / "store" / "channels" / "production"
    (channels / "pointer.json").write_bytes(b"{}")
    assert repository.run("verify") == 1
    assert "put the newest of channels/production/history in its place" in repository.capsys.readouterr().out
    (channels / "pointer.json").write_bytes((channels / "history" / "00000001.json").read_bytes())
    assert repository.run("verify") == 0


def test_verify_writes_down_an_event_whose_writer_died(repository: Repository) -> None:
    repository.run("promote", repository.publish(0.5), "--to", "production")
    repository.store.remove(event_key("production", 1))
    assert repository.json("verify", "production")["repaired"] == ["production"]
    assert repository.json("verify")["repaired"] == []


def test_a_channel_that_went_back_is_refused_everywhere(repository: Repository) -> None:
    path = repository.workspace.root / "store" / pointer_key("production")
    first, second = repository.publish(0.5), repository.publish(0.6)
    repository.run("promote", first, "--to", "production")
    old = path.read_bytes()
    repository.run("promote", second, "--to", "production")
    path.write_bytes(old)
    for command in (["pull", "production"], ["promote", second, "--to", "production"], ["rollback", "production"],
                    ["history", "production"], ["verify"]):  # fmt: skip
        assert repository.run(*command) == 1, command
        assert "was at 2 before" in "".join(repository.capsys.readouterr())


def test_a_channel_that_was_removed_whole_is_missed(repository: Repository) -> None:
    repository.run("promote", repository.publish(0.5), "--to", "production")
    for path in (repository.workspace.root / "store" / "channels").rglob("*.json"):
        path.unlink()
    assert repository.run("verify") == 1
    assert "production is gone, and was at number 1 before" in "".join(repository.capsys.readouterr())


def test_what_dead_publishers_left_is_collected_by_age(repository: Repository) -> None:
    digest = repository.publish(0.5)
    stray = blob_key("0" * 64)
    (repository.workspace.root / "store" / stray).write_bytes(b"stray")
    assert repository.json("collect")["keys"] == []
    assert repository.json("collect", "--older-than", "0", "--dry-run")["keys"] == [stray]
    assert repository.json("collect", "--older-than", "0")["keys"] == [stray]
    assert repository.json("verify", digest)["faults"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["promote", "0" * 64, "--to", "production"], 2, "holds no release"),
        (["promote", "latest", "--to", "Production"], 2, "cannot be a channel"),
        (["promote", "nowhere", "--to", "production"], 2, "no channel 'nowhere'; there are: none yet"),
        (["history", "production"], 2, "no channel 'production'"),
        (["rollback", "production"], 2, "no channel 'production'; there are: none yet"),
        (["collect", "--older-than", "-1"], 2, "give days, from 0 to 36500"),
        (["collect", "--older-than", "nan"], 2, "give days, from 0 to 36500"),
        (["show", "abc"], 2, "names no release"),
        (["keys", "params.yaml"], 2, "never overwritten"),
    ],
)
def test_what_cannot_be_done_is_a_clear_error(
    repository: Repository, arguments: list[str], code: int, says: str
) -> None:
    repository.publish(0.5)
    assert repository.run(*arguments) == code
    assert says in repository.capsys.readouterr().err


def test_people_get_tables(repository: Repository) -> None:
    digest = repository.publish(0.5)
    for command in (["promote", digest, "--to", "production", "--reason", "first"], ["releases"], ["show", digest],
                    ["history", "production"], ["verify"]):  # fmt: skip
        assert repository.run(*command) == 0
    said = repository.capsys.readouterr().out
    for expected in ("passes", f"production serves {digest[:16]} now (number 1)", "0.500", "provenance.json", "first",
                     "everything is what it says", f"commit {COMMIT[:40]}, with changes"):  # fmt: skip
        assert expected in said


def test_what_others_wrote_into_a_history_says_nothing_to_a_terminal(repository: Repository) -> None:
    repository.publish(0.5)
    assert repository.run("promote", "latest", "--to", "production", "--reason", "a\x1b]0;b\x07 <system>\u202e c") == 0
    assert repository.run("history", "production") == 0
    assert repository.run("promote", "latest", "--to", "production", "--expect", "0") == 1
    said = repository.capsys.readouterr()
    assert "a]0;b (system) c" in said.out
    assert f"ada to {repository.served() or ''}"[:20] in said.err
    assert not set("\x1b\x07\u202e") & set(said.out + said.err)


def test_promote_loads_nothing_heavy(repository: Repository) -> None:
    """Imports are most of what the two seconds of a promotion go into."""
    repository.publish(0.5)
    heavy = "('torch', 'transformers', 'boto3', 'numpy', 'model_signing', 'huggingface_hub')"
    code = f"import sys, stages.publish.manage as m; m.main(['promote', 'latest', '--to', 'production']); \
print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository.workspace.root, env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.strip() == "[]"
