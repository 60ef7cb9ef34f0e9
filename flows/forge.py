"""The forge that reviews branches: a pull request on GitHub, a merge request on GitLab, through their REST APIs.

`infra/forge.yaml` says which; the token comes from the environment alone, and is sent nowhere but to the forge.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.process import FORGE_TOKEN
from stages.shared.errors import ConfigurationError, PipelineError, TransientError
from stages.shared.files import read_yaml

if TYPE_CHECKING:
    import httpx

FILE = Path("infra") / "forge.yaml"
TIMEOUT_S = 30.0
LONGEST_BODY = 60_000
"""Characters; GitHub takes 65,536."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Forge(BaseModel):
    """Where a pull request is opened."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["github", "gitlab"]
    url: str
    """Of the API: https://api.github.com, https://gitlab.com/api/v4, or that of a server of one's own."""
    repository: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)+$")]
    """OWNER/NAME; on GitLab, GROUP/…/NAME."""


def read_forge(root: Path) -> Forge | None:
    """The forge of infra/forge.yaml; None where there is no such file, or it says `kind: none`.

    Raises ConfigurationError for a wrong key or value, for a token that would travel in the clear, and where
    POINTSMAN_FORGE_TOKEN is not set.
    """
    path = root / FILE
    if not path.is_file():
        return None
    try:
        raw = read_yaml(path)
        if isinstance(raw, dict) and raw.get("kind") in (None, "none"):
            return None
        forge = Forge.model_validate(raw)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    address = urlsplit(forge.url)
    if address.scheme != "https" and address.hostname not in LOOPBACK:
        raise ConfigurationError(f"{path}: url is {forge.url}; the token would travel in the clear; use https")
    _token()
    return forge


def propose(forge: Forge, *, branch: str, base: str, title: str, body: str) -> str:
    """Open a pull request and return its page's address; that of an open one for the same branch, where there is one.

    Raises ConfigurationError when the forge refuses token, repository or request, TransientError when it does not
    answer, or answers that it cannot for now.
    """
    if len(body) > LONGEST_BODY:
        body = body[:LONGEST_BODY] + f"\n\n… cut; the whole: `pointsman diff {base} {branch}`"
    act = _github if forge.kind == "github" else _gitlab
    return act(forge, branch, base, title, body)


def _github(forge: Forge, branch: str, base: str, title: str, body: str) -> str:
    path = f"/repos/{forge.repository}/pulls"
    owner = forge.repository.partition("/")[0]
    found = _call(forge, "GET", path, params={"head": f"{owner}:{branch}", "state": "open"})
    if not found:
        new = {"title": title, "head": branch, "base": base, "body": body}
        found = [_call(forge, "POST", path, json=new)]
    return _address(forge, found, "html_url")


def _gitlab(forge: Forge, branch: str, base: str, title: str, body: str) -> str:
    path = f"/projects/{quote(forge.repository, safe='')}/merge_requests"
    found = _call(forge, "GET", path, params={"source_branch": branch, "state": "opened"})
    if not found:
        new = {
            "title": title, "source_branch": branch, "target_branch": base, "description": body,
            "remove_source_branch": True,
        }  # fmt: skip
        found = [_call(forge, "POST", path, json=new)]
    return _address(forge, found, "web_url")


def _call(forge: Forge, method: str, path: str, **more: Any) -> Any:
    import httpx

    try:
        with httpx.Client(headers=_headers(forge), timeout=TIMEOUT_S) as client:
            reply = client.request(method, forge.url.rstrip("/") + path, **more)
    except httpx.TransportError as error:
        raise TransientError(f"the forge at {forge.url} does not answer ({error!r}); try again") from error
    if not reply.is_success:
        raise _refusal(forge, reply)
    try:
        return reply.json()
    except ValueError as error:
        raise ConfigurationError(f"{forge.url} answers what is not JSON; is it the forge's API? See {FILE}") from error


def _headers(forge: Forge) -> Mapping[str, str]:
    if forge.kind == "gitlab":
        return {"PRIVATE-TOKEN": _token()}
    accept = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    return {"Authorization": f"Bearer {_token()}", **accept}


def _token() -> str:
    token = os.environ.get(FORGE_TOKEN)
    if not token:
        raise ConfigurationError(f"{FILE} names a forge, but ${FORGE_TOKEN} is not set; export it, or set kind: none")
    return token


def _refusal(forge: Forge, reply: httpx.Response) -> PipelineError:
    code, said = reply.status_code, reply.text[:500].replace(_token(), "***")
    if code >= 500 or code == 429:
        return TransientError(f"the forge at {forge.url} cannot for now ({code}); try again\n{said}")
    hints = {
        401: f"it refuses the token in ${FORGE_TOKEN}",
        403: f"the token in ${FORGE_TOKEN} may not open pull requests in {forge.repository}",
        404: f"it does not know {forge.repository}, or does not show it to the token in ${FORGE_TOKEN}",
    }
    hint = hints.get(code, "it refuses the pull request")
    return ConfigurationError(f"the forge at {forge.url}: {hint} ({code}); see {FILE}\n{said}")


def _address(forge: Forge, found: Any, key: str) -> str:
    try:
        return str(found[0][key])
    except (LookupError, TypeError) as error:
        raise ConfigurationError(f"{forge.url} answers without {key}; is it {forge.kind}'s API? See {FILE}") from error
