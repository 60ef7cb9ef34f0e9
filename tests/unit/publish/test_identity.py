"""A store has one id, whoever asks first, and nobody changes it unseen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.publish.folder import FolderStore
from stages.publish.identity import KEY, identify, read_identity
from stages.publish.store import Store
from stages.shared.errors import IntegrityError


def test_whoever_asks_first_everybody_hears_the_same(any_store: Store) -> None:
    assert read_identity(any_store) is None
    with ThreadPoolExecutor(16) as pool:
        (one,) = set(pool.map(lambda _: identify(any_store), range(16)))
    assert identify(any_store) == read_identity(any_store) == one
    assert len(one) == 8


def test_two_stores_have_two_ids_and_a_store_keeps_its_own_where_it_is_moved(tmp_path: Path) -> None:
    known = [identify(FolderStore(tmp_path / name)) for name in ("a", "b")]
    assert known[0] != known[1]
    (tmp_path / "a").rename(tmp_path / "c")
    assert identify(FolderStore(tmp_path / "c")) == known[0]


@pytest.mark.parametrize("place", [0, 12, 40, -3])
def test_a_changed_one_is_found(folder_store: FolderStore, tmp_path: Path, place: int) -> None:
    identify(folder_store)
    content = bytearray((tmp_path / "store" / KEY).read_bytes())
    content[place] ^= 1
    (tmp_path / "store" / KEY).write_bytes(content)
    with pytest.raises(IntegrityError, match="not as it was written"):
        identify(folder_store)
