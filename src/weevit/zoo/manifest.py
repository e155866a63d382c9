"""`weevit-manifest.json`: the sha256 of every file of a checkpoint folder, written last and checked at every load.

A flipped bit in weights loads everywhere without a word; here it does not.
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
    """Record what the files are; the last step of writing a folder.

    Args:
        folder: where the files are.
        sha256: file name -> hex digest.
        facts: what else should stand there, for instance where the files came from.
    """
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
    if content.get("schema") != SCHEMA or not _are_digests(digests):
        raise MalformedFileError(f"{path} is not a manifest of the kind {SCHEMA}.", f"delete {path}")
    return digests


def _are_digests(value: object) -> bool:
    """Whether these are names of files in the folder itself, each with a sha256: anything else, others wrote."""
    return isinstance(value, dict) and all(
        name == Path(name).name and isinstance(digest, str) and len(digest) == 64 for name, digest in value.items()
    )


def check_files(folder: Path, hint: str, later: str = "") -> dict[str, str]:
    """Hash every file that the manifest lists, and compare.

    Args:
        folder: where the files are.
        hint: what to do if one is not what was recorded.
        later: the name of a file that only has to be there: whoever reads it hashes it on the way.

    Returns:
        File name -> sha256; empty where there is no manifest.

    Raises:
        ChecksumError: a file is not what was recorded, or is gone.
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
    """The error about a file whose bytes are not those that were recorded, or not those that were seen before."""
    return ChecksumError(
        f"{path} is not the file that was recorded in {MANIFEST}, or was exchanged: its sha256 differs.", hint
    )
