"""Manifests of saved indexes: read, and checked against this program and the files beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refine_env.datasets.passages import CHECKED_BYTES, check_contents

FORMAT = 2
MANIFEST = "manifest.json"


def read_manifest(folder: Path, engine: str) -> dict[str, Any]:
    """The manifest of a saved index, checked against this program and the files beside it."""
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"there is no saved index in {folder} (no {MANIFEST})")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = {key: manifest[key] for key in ("format", "engine")}
        files = dict(manifest["files"])
        for key in ("parameters", "libraries", "extra"):
            dict(manifest.get(key, {}))
            manifest.setdefault(key, {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a manifest ({error!r}); build the index again") from error
    for key, value in {"format": FORMAT, "engine": engine}.items():
        if found[key] != value:
            raise ValueError(
                f"{folder}: the index has {key} {found[key]!r}, this program needs {value!r} "
                f"(made with {manifest['libraries']}); build the index again"
            )
    for name, size in files.items():
        file = folder / name
        actual = file.stat().st_size if file.is_file() else None
        if actual != size:
            state = "is missing" if actual is None else f"has {actual} bytes, not {size}"
            raise ValueError(f"{folder}: {name} {state}; build the index again")
    if sum(files.values()) <= CHECKED_BYTES:
        check_index_contents(folder, manifest)
    return manifest


def check_index_contents(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a file of an index that is not what was written."""
    try:
        check_contents(folder, manifest)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder}: {error}; build the index again") from error
