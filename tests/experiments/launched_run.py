"""What `torchrun` starts in tests: runs of a small scale, by all processes together."""

from __future__ import annotations

import sys
from typing import Any, cast

from experiments.reproduction import one_run
from experiments.reproduction.scales import SCALES
from tests.experiments.small_scales import like_full


def main(policy: str, root: str) -> None:
    """A trained arm and one that is a prompt."""
    scale = like_full(policy)
    cast(dict[str, Any], SCALES)[scale.name] = scale
    one_run.main(scale.name, root, "autorefine", "0", "as-trained", "dropped")
    one_run.main(scale.name, root, "direct", "0", "as-trained")


if __name__ == "__main__":
    main(*sys.argv[1:])
