"""Settings of runs by dotted names, such as `grpo.seed`: flattened, as text, in short."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

HOUSEKEEPING = frozenset({"output", "resume", "wandb", "project"})
"""Settings of where a run writes and to whom it tells; what it learns does not depend on them."""


def flat(
    settings: Mapping[str, Any], *, depth: int | None = None, keep_empty: bool = False
) -> dict[str, Any]:
    """Settings within settings by their dotted names, `depth` sections deep (None: all of them).

    A section without settings leaves nothing; with `keep_empty` it stands as it is, empty.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and depth != 0 and (value or not keep_empty):
            inside = flat(value, depth=None if depth is None else depth - 1, keep_empty=keep_empty)
            found |= {f"{name}.{inner}": setting for inner, setting in inside.items()}
        else:
            found[str(name)] = value
    return found


def as_text(value: Any) -> str:
    """A setting's value as a reader sees it: text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def last_parts(names: Sequence[str]) -> dict[str, str]:
    """Dotted name -> its last part, where that tells it apart from the others; else the name."""
    lasts = {name: name.rpartition(".")[2] for name in names}
    count = Counter(lasts.values())
    return {name: last if count[last] == 1 else name for name, last in lasts.items()}
