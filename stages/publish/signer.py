"""Who signs what is published: the holder of a key, or an identity of Sigstore, or nobody."""

from __future__ import annotations

import os
from pathlib import Path

from stages.publish.signature import Signer, load_private_key
from stages.shared.errors import ConfigurationError
from stages.shared.params import PublishParams


def find_signer(params: PublishParams, root: Path) -> Signer | None:
    """As the section publish and the environment say; None where neither does. The file of a private trust config is
    seen from `root`.

    Raises ConfigurationError where both a key and an identity are to sign, or one of them cannot, and TransientError as
    `signer_by_identity`.
    """
    key = os.environ.get(params.signing_key_env)
    if params.sigstore is None:
        return load_private_key(Path(key)) if key else None
    if key:
        raise ConfigurationError(
            f"both publish.sigstore and ${params.signing_key_env} are set; a release is signed one way: unset one"
        )
    from stages.publish.keyless_signer import signer_by_identity

    return signer_by_identity(params.sigstore, root)
