"""Which store this is: an id that it is given once, the same from every machine and under every address."""

from __future__ import annotations

import hashlib
import json
import secrets

from stages.publish.manifest import canonical_json
from stages.publish.store import Store
from stages.shared.errors import IntegrityError

KEY = "store.json"
SCHEMA = "pointsman/store/1"
DIGITS = 8


def identify(store: Store) -> str:
    """The store's id, 8 hexadecimal digits; one that has none is given one. Raises IntegrityError for a changed one."""
    known = read_identity(store)
    if known is None:
        made = _identity(secrets.token_hex(16))
        store.create(KEY, made, hashlib.sha256(made).hexdigest())
        known = read_identity(store)
        assert known is not None, "an object that was created, by us or by another, is there"
    return known


def read_identity(store: Store) -> str | None:
    """The store's id, None where it has none yet. Raises IntegrityError for a changed one."""
    chunks = store.read(KEY)
    if chunks is None:
        return None
    found = b"".join(chunks)
    try:
        known = json.loads(found)
        whole = found == _identity(known["seed"])
    except (ValueError, LookupError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise IntegrityError(f"{store.place}: {KEY}, which says what store this is, is not as it was written")
    return str(known["id"])


def _identity(seed: str) -> bytes:
    """The id follows from a seed beside it, so that neither can be changed alone."""
    digest = hashlib.sha256(seed.encode()).hexdigest()
    return canonical_json({"format": SCHEMA, "id": digest[:DIGITS], "seed": seed})
