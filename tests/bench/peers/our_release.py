"""Our own process of tests/bench/releases.py: publish a file as a release, or pull what was published into a folder.

A file of its own, which loads what the task needs and no more.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from stages.publish.location import Keys, Location
from stages.publish.s3 import S3Store


def publish(store: S3Store, path: Path) -> None:
    """The file and the note beside it; the digest is left beside them."""
    from stages.publish.manifest import FileEntry, Manifest
    from stages.publish.release import Release
    from stages.publish.release import publish as put
    from stages.shared.files import sha256

    contents = {"weights.safetensors": path, "note.json": path.with_name("note.json")}
    files = {name: FileEntry(sha256=sha256(each), bytes=each.stat().st_size) for name, each in contents.items()}
    release = Release(Manifest(synthetic=True, files=files), contents)
    put(release, store)
    path.with_name("digest").write_text(release.manifest.digest)


def pull(store: S3Store, path: Path) -> None:
    """What the digest beside the folder names."""
    from stages.publish.fetch import fetch_release

    fetch_release(store, path.with_name("digest").read_text(), path)


if __name__ == "__main__":
    task, url, bucket, region, access, secret, path = sys.argv[1:]
    store = S3Store(Location(url, bucket, "ours", region), Keys(access, secret, "the bench"))
    {"publish": publish, "pull": pull}[task](store, Path(path))
