"""The token by which an OIDC provider vouches for whoever signs: from a variable, a file, or the CI that runs us.

It is read when it is needed, handed to Fulcio, and written nowhere. There is no browser window to get one.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stages.shared.errors import ConfigurationError
from stages.shared.files import read_text
from stages.shared.params.publish import SigstoreParams

if TYPE_CHECKING:
    from sigstore.oidc import IdentityToken


def read_token(params: SigstoreParams) -> IdentityToken:
    """The variable's token, or that of the file that the variable with `_FILE` names, or the CI's own.

    Raises ConfigurationError where there is none, or one that is no token, is over, or is meant for somebody else.
    """
    import jwt
    from sigstore.oidc import IdentityError, IdentityToken

    raw, origin = _find(params)
    try:
        return IdentityToken(raw, params.audience)
    except IdentityError as error:
        cause = error.__cause__ or error
        if isinstance(cause, jwt.ExpiredSignatureError):
            said = f"expired{_when(raw)}; get a new one, they live for minutes"
        elif isinstance(cause, jwt.InvalidAudienceError):
            said = f"is not for {params.audience!r}; ask for one with that audience (`aud`)"
        else:
            said = f"is none that Sigstore takes ({type(cause).__name__}: {cause}); get a new one"
        raise ConfigurationError(f"the identity token of {origin} {said}") from None


def _find(params: SigstoreParams) -> tuple[str, str]:
    """A token, and where it was, for messages."""
    from sigstore.oidc import IdentityError, detect_credential

    name, file = params.token_env, f"{params.token_env}_FILE"
    if token := os.environ.get(name, "").strip():
        return token, f"${name}"
    if path := os.environ.get(file):
        try:
            return read_text(Path(path)).strip(), f"{path} (${file})"
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"${file}: {error}; name the file that holds the identity token") from error
    try:
        token = detect_credential(params.audience) or ""
    except IdentityError as error:
        raise ConfigurationError(f"this CI gives no identity token: {error}") from error
    if token:
        return token, "this CI"
    raise ConfigurationError(
        f"publish.sigstore is set, but there is no identity token to sign by: set ${name} to one, ${file} to its file, "
        "or run where the CI gives one (GitHub Actions: `permissions: id-token: write`)"
    )


def _when(raw: str) -> str:
    import jwt

    try:
        over = jwt.decode(raw, options={"verify_signature": False, "verify_exp": False, "verify_aud": False})["exp"]
        return f" at {datetime.fromtimestamp(int(over), UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (jwt.PyJWTError, ValueError, TypeError, LookupError):
        return ""
