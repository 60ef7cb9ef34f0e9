"""What is collected, and what happens to a release that is committed in the same moment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from stages.publish.fetch import verify_stored
from stages.publish.folder import FolderStore
from stages.publish.garbage import collect
from stages.publish.keys import manifest_key
from stages.publish.release import publish
from stages.shared.errors import IntegrityError
from tests.unit.publish.small import release_of

AT_ONCE = timedelta(seconds=-60)
"""Whatever is there is old enough."""


class LateCommit(FolderStore):
    """Somebody publishes what was garbage when it was looked for, just before it is removed."""

    def remove(self, key: str) -> None:
        publish(release_of(1), FolderStore(self._root))
        super().remove(key)


def test_a_release_that_is_robbed_by_the_collection_is_named_and_published_again(tmp_path: Path) -> None:
    release, store = release_of(1), FolderStore(tmp_path)
    publish(release, store)
    store.remove(manifest_key(release.manifest.digest))
    with pytest.raises(IntegrityError, match=f"{release.manifest.digest}; publish them again"):
        collect(LateCommit(tmp_path), AT_ONCE)
    assert verify_stored(store, release.manifest.digest) != []
    publish(release, store)
    assert verify_stored(store, release.manifest.digest) == []
    assert collect(store, AT_ONCE) == []
