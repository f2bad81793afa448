"""One run in processes of its own: `torchrun ... -m experiments.reproduction.one_run full runs/x
autorefine 0 as-trained`. `refine-env reproduce` calls it at full scale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from agents.distributed import join
from experiments.inputs import message_alone
from experiments.reproduction.arms import Run
from experiments.reproduction.runs import Place, condition_of, perform
from experiments.reproduction.scales import SCALES


def main(scale: str, root: str, arm: str, seed: str, *conditions: str) -> None:
    """Train and test a run as far as it is not done."""
    with message_alone():
        join()
        place = Place(SCALES[scale], Path(root))
        perform(place, Run(arm, int(seed)), [condition_of(name) for name in conditions])


if __name__ == "__main__":
    main(*sys.argv[1:])
