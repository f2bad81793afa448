"""Which forged documents change rewards: under the published scoring, and under this project's.

`python -m tests.adversarial.published` prints the table that stands in docs/robustness.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.reproduction.published import published_reward
from refine_env.protocols import AUTOREFINE, Protocol
from refine_env.rewards import PRESETS, get
from tests.adversarial.attacks import attacks
from tests.adversarial.plays import both, policies


@dataclass(slots=True)
class Row:
    """Of a family: how many attacks change the reward of at least one policy."""

    family: str
    attacks: int = 0
    published: int = 0
    ours: int = 0
    """Under any preset."""


def forgery_table(protocol: Protocol = AUTOREFINE, every: int = 1) -> list[Row]:
    """A row for each family, over every n-th of its attacks and all policies of `plays`."""
    rows: dict[str, Row] = {}
    seen: dict[str, int] = {}
    for attack in attacks(protocol.tags):
        row = rows.setdefault(attack.family, Row(attack.family))
        seen[attack.family] = seen.get(attack.family, -1) + 1
        if seen[attack.family] % every:
            continue
        pairs = [both(protocol, actions, attack) for actions in policies(protocol).values()]
        row.attacks += 1
        row.published += any(published_reward(a) != published_reward(b) for a, b in pairs)
        row.ours += any(get(name)(a) != get(name)(b) for a, b in pairs for name in PRESETS)
    return list(rows.values())


if __name__ == "__main__":
    print("| family | attacks | rewards changed, published scoring | rewards changed here |")
    print("| --- | --- | --- | --- |")
    table = forgery_table()
    for row in table:
        print(f"| {row.family} | {row.attacks} | {row.published} | {row.ours} |")
    sums = [sum(getattr(row, name) for row in table) for name in ("attacks", "published", "ours")]
    print(f"| all | {' | '.join(map(str, sums))} |")
