"""`weevit-manifest.json`: the sha256 of every file of a checkpoint folder, written last and checked at every load.

It detects a flipped bit in weights, which other formats load in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from weevit.errors import ChecksumError, MalformedFileError
from weevit.store.files import as_bytes, replace_file, sha256_file
from weevit.zoo.safetensors_file import open_regular
from weevit.zoo.strict_json import parse_json_object

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MANIFEST = "weevit-manifest.json"
SCHEMA = "weevit.manifest/1"

_LIMIT = 1 << 20


def write_manifest(folder: Path, sha256: Mapping[str, str], **facts: str) -> None:
    """Record the sha256 of the files and further facts; the last step of writing a folder."""
    content = {"schema": SCHEMA, **facts, "sha256": dict(sha256)}
    replace_file(folder / MANIFEST, lambda tmp: tmp.write_bytes(as_bytes(content)))


def read_manifest(folder: Path) -> dict[str, str] | None:
    """File name -> sha256, None without a manifest; MalformedFileError for one that weevit did not write."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    with open_regular(path, _LIMIT) as file:
        content = parse_json_object(file.read(), str(path))
    digests = content.get("sha256")
    sound = isinstance(digests, dict) and all(  # names of files in the folder itself, each with a sha256
        name == Path(name).name and isinstance(digest, str) and len(digest) == 64 for name, digest in digests.items()
    )
    if content.get("schema") != SCHEMA or not sound:
        raise MalformedFileError(f"{path} is not a manifest of the kind {SCHEMA}.", f"delete {path}")
    return digests


def check_files(folder: Path, hint: str, later: str = "") -> dict[str, str]:
    """Hash every file in the manifest, and compare.

    Args:
        folder: folder of the files.
        hint: what to do if one differs.
        later: a file that its reader will hash, so that it only has to exist.

    Returns:
        File name -> sha256; empty without a manifest.

    Raises:
        ChecksumError: a file differs from the record, or is gone.
    """
    recorded = read_manifest(folder) or {}
    for name, digest in recorded.items():
        path = folder / Path(name).name
        if not path.is_file():
            raise ChecksumError(f"{path} is gone; {MANIFEST} lists it.", hint)
        if name != later and sha256_file(path) != digest:
            raise differs(path, hint)
    return recorded


def differs(path: Path, hint: str) -> ChecksumError:
    """The error for a file whose bytes differ from the record, or from an earlier reading."""
    return ChecksumError(
        f"{path} is not the file that was recorded in {MANIFEST}, or was exchanged: its sha256 differs.", hint
    )
