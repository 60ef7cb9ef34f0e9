"""Pull requests on a loopback server that answers as GitHub and GitLab do, and checks what it is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.forge import LONGEST_BODY, propose, read_forge
from flows.process import FORGE_TOKEN, environment
from stages.shared.errors import ConfigurationError, PipelineError, TransientError

TOKEN = "hush-hush-0123456789"
ASKED = {"branch": "retrain/2026-11-22-1a2b3c4d", "base": "main", "title": "Retrain", "body": "# main → retrain\n"}


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes infra/forge.yaml and reads it."""
    monkeypatch.setenv(FORGE_TOKEN, TOKEN)

    def write(**values: Any) -> Any:
        (tmp_path / "infra").mkdir(exist_ok=True)
        (tmp_path / "infra" / "forge.yaml").write_text(yaml.safe_dump(values))
        return read_forge(tmp_path)

    return write


def test_github_is_asked_whether_the_branch_is_proposed_and_then_to_open_it(forge: Any, configured: Any) -> None:
    forge.replies = [(200, []), (201, {"html_url": "https://forge.example/pull/7"})]
    found = configured(kind="github", url=f"{forge.url}/api/v3/", repository="owner/name")
    assert propose(found, **ASKED) == "https://forge.example/pull/7"
    look, new = forge.requests
    assert (look.method, new.method) == ("GET", "POST")
    assert look.path == "/api/v3/repos/owner/name/pulls?head=owner%3Aretrain%2F2026-11-22-1a2b3c4d&state=open"
    assert new.path == "/api/v3/repos/owner/name/pulls"
    for request in forge.requests:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert request.headers["Accept"] == "application/vnd.github+json"
        assert request.headers["X-GitHub-Api-Version"] == "2022-11-28"
    assert new.body == {"title": "Retrain", "head": ASKED["branch"], "base": "main", "body": ASKED["body"]}


def test_gitlab_gets_a_merge_request_by_the_project_s_path(forge: Any, configured: Any) -> None:
    forge.replies = [(200, []), (201, {"web_url": "https://forge.example/-/merge_requests/7"})]
    found = configured(kind="gitlab", url=f"{forge.url}/api/v4", repository="group/sub/name")
    assert propose(found, **ASKED) == "https://forge.example/-/merge_requests/7"
    look, new = forge.requests
    path = "/api/v4/projects/group%2Fsub%2Fname/merge_requests"
    assert look.path == f"{path}?source_branch=retrain%2F2026-11-22-1a2b3c4d&state=opened"
    assert (new.method, new.path, new.headers["PRIVATE-TOKEN"]) == ("POST", path, TOKEN)
    assert "Authorization" not in new.headers
    assert new.body == {
        "title": "Retrain", "source_branch": ASKED["branch"], "target_branch": "main", "description": ASKED["body"],
        "remove_source_branch": True,
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "key"), [("github", "html_url"), ("gitlab", "web_url")])
def test_a_branch_that_is_proposed_already_is_not_proposed_twice(
    forge: Any, configured: Any, kind: str, key: str
) -> None:
    forge.replies = [(200, [{key: "https://forge.example/5"}])]
    assert propose(configured(kind=kind, url=forge.url, repository="a/b"), **ASKED) == "https://forge.example/5"
    assert len(forge.requests) == 1


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (401, ConfigurationError, f"refuses the token in ${FORGE_TOKEN}"),
        (403, ConfigurationError, "may not open pull requests in a/b"),
        (404, ConfigurationError, "does not know a/b"),
        (422, ConfigurationError, "refuses the pull request"),
        (302, ConfigurationError, "refuses the pull request"),
        (429, TransientError, "cannot for now"),
        (503, TransientError, "cannot for now"),
    ],
)
def test_a_refusal_says_what_to_do_and_never_the_token(
    forge: Any, configured: Any, code: int, kind: type[PipelineError], words: str
) -> None:
    forge.replies = [(code, {"message": f"no, {TOKEN}"})]
    with pytest.raises(kind) as caught:
        propose(configured(kind="github", url=forge.url, repository="a/b"), **ASKED)
    assert words in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "no, ***" in str(caught.value)


def test_a_forge_that_is_not_there_may_be_tried_again(configured: Any) -> None:
    with pytest.raises(TransientError, match="does not answer"):
        propose(configured(kind="github", url="http://127.0.0.1:9", repository="a/b"), **ASKED)


def test_an_address_that_is_no_api_is_said_so(forge: Any, configured: Any) -> None:
    forge.replies = [(200, {"welcome": "home"}), (200, [{"id": 1}])]
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="github's API"):
            propose(configured(kind="github", url=forge.url, repository="a/b"), **ASKED)


def test_a_body_that_the_forge_would_refuse_is_cut_and_says_where_the_rest_is(forge: Any, configured: Any) -> None:
    forge.replies = [(200, []), (201, {"html_url": "x"})]
    propose(configured(kind="github", url=forge.url, repository="a/b"), **(ASKED | {"body": "é" * 70_000}))
    body = forge.requests[1].body["body"]
    assert LONGEST_BODY < len(body) < 65_536
    assert body.endswith(f"`pointsman diff main {ASKED['branch']}`")


def test_no_file_and_kind_none_are_no_forge(configured: Any, tmp_path: Path) -> None:
    assert read_forge(tmp_path) is None
    assert configured(kind="none") is None
    assert read_forge(Path(__file__).resolve().parents[3]) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "bitbucket", "url": "https://x", "repository": "a/b"}, "github"),
        ({"kind": "github", "url": "https://x", "repository": "a"}, "repository"),
        ({"kind": "github", "url": "https://x", "repository": "a/b", "token": TOKEN}, "token"),
        ({"kind": "github", "url": "http://forge.example", "repository": "a/b"}, "in the clear"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key(configured: Any, values: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        configured(**values)


def test_a_forge_without_a_token_is_refused_before_anything_runs(
    configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FORGE_TOKEN)
    with pytest.raises(ConfigurationError, match=f"{FORGE_TOKEN} is not set"):
        configured(kind="github", url="https://x", repository="a/b")


def test_stages_and_dvc_do_not_get_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORGE_TOKEN, TOKEN)
    assert TOKEN not in environment().values()
