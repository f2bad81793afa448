"""The parts of the report, by name, in its order."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.reproduction.parts import (
    ablation,
    depth,
    main_table,
    model_size,
    noise,
    refinement,
    reward_hacking,
    reward_shape,
    search_frequency,
    search_quality,
)
from experiments.reproduction.parts.base import Part

_PARTS = (
    main_table.PART,
    ablation.PART,
    search_frequency.PART,
    search_quality.PART,
    refinement.PART,
    depth.PART,
    reward_shape.PART,
    noise.PART,
    model_size.PART,
    reward_hacking.PART,
)

PARTS: Mapping[str, Part] = {part.name: part for part in _PARTS}
"""Name -> part."""
