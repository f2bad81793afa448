"""The arms of the experiments: what is trained, as data. Two arms that are compared differ in what
the comparison is about, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ProtocolName = Literal["autorefine", "search_r1", "research"]
ModelSize = Literal["small", "usual", "large"]


@dataclass(frozen=True, slots=True)
class Demonstrator:
    """What a policy of embedded scale imitates before it is trained: the same episodes for all, in
    the words of its protocol."""

    protocol: ProtocolName = "autorefine"
    searches: int | None = None
    """As in `agents.warm_start.Habits`; a bound for the environment, too."""
    notes_as_thoughts: bool = False
    """Where the protocol has no refine block: write the same notes as a thought."""
    drops_documents: bool = False
    """See turns without the documents that were refined before, too."""
    depths: tuple[int, ...] = ()
    """Documents of a search, of each of its worlds in turn; none: as in training."""

    @property
    def is_habit(self) -> bool:
        """Whether it differs from that of another arm in what is imitated alone."""
        return self.notes_as_thoughts or self.drops_documents or bool(self.depths)

    @property
    def name(self) -> str:
        """Of its folder."""
        parts: list[str] = [self.protocol]
        if self.searches is not None:
            parts.append(f"{self.searches}-searches")
        if self.notes_as_thoughts:
            parts.append("thoughts")
        if self.drops_documents:
            parts.append("dropped")
        if self.depths:
            parts.append("depths")
        return "-".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What is trained with a number of seeds."""

    name: str
    title: str
    demonstrator: Demonstrator = Demonstrator()
    reward: str | Mapping[str, Any] = field(default="autorefine", hash=False)
    env_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Of training and, unless a condition says otherwise, of the test."""
    size: ModelSize = "usual"
    untrained: Literal["", "direct", "naive-rag"] = ""
    """Which prompt of `agents.baselines` stands for this arm at full scale, where, as in the paper,
    it is not trained."""


_DIRECT = Demonstrator("search_r1", searches=0)
_SINGLE = Demonstrator("search_r1", searches=1)
_SEARCH_R1 = Demonstrator("search_r1")


def _weighted(name: str, weight: float) -> dict[str, Any]:
    return {"name": name, "refine_weight": weight}


_ARMS = (
    Arm(name="autorefine", title="AutoRefine"),
    Arm(name="search_r1", title="Search-R1", demonstrator=_SEARCH_R1, reward="search_r1"),
    Arm(
        name="research",
        title="ReSearch",
        demonstrator=Demonstrator("research"),
        reward="research",
    ),
    Arm(
        name="single",
        title="single retrieval",
        demonstrator=_SINGLE,
        reward="f1",
        untrained="naive-rag",
    ),
    Arm(
        name="direct", title="direct answer", demonstrator=_DIRECT, reward="f1", untrained="direct"
    ),
    Arm(name="f1", title="without the retrieval reward", reward="f1"),
    Arm(
        name="no_refine",
        title="without reward and refine step",
        demonstrator=_SEARCH_R1,
        reward="f1",
    ),
    Arm(
        name="thoughts",
        title="notes as thoughts",
        demonstrator=Demonstrator("search_r1", notes_as_thoughts=True),
        reward="f1",
    ),
    Arm(
        name="dropping",
        title="warm start with dropped documents",
        demonstrator=Demonstrator(drops_documents=True),
    ),
    Arm(name="linear", title="linear, 0.1", reward=_weighted("linear", 0.1)),
    Arm(name="linear_0.5", title="linear, 0.5", reward=_weighted("linear", 0.5)),
    Arm(name="weight_0.05", title="non-linear, 0.05", reward=_weighted("autorefine", 0.05)),
    Arm(name="weight_0.2", title="non-linear, 0.2", reward=_weighted("autorefine", 0.2)),
    Arm(name="weight_0.5", title="non-linear, 0.5", reward=_weighted("autorefine", 0.5)),
    Arm(name="official", title="official", reward="official"),
    Arm(name="official_0.5", title="official, 0.5", reward=_weighted("official", 0.5)),
    *(
        Arm(name=f"k_{k}", title=f"trained with k = {k}", env_options={"top_k": k})
        for k in (1, 5, 7)
    ),
    Arm(
        name="depths",
        title="AutoRefine, warm start with 1 to 7",
        demonstrator=Demonstrator(depths=(1, 3, 5, 7)),
    ),
    Arm(
        name="search_r1_depths",
        title="Search-R1, warm start with 1 to 7",
        demonstrator=Demonstrator("search_r1", depths=(1, 3, 5, 7)),
        reward="search_r1",
    ),
    Arm(name="noise_2", title="AutoRefine, trained with noise", env_options={"noise": 2.0}),
    Arm(
        name="search_r1_noise_2",
        title="Search-R1, trained with noise",
        demonstrator=_SEARCH_R1,
        reward="search_r1",
        env_options={"noise": 2.0},
    ),
    Arm(name="small", title="AutoRefine, small model", size="small"),
    Arm(name="large", title="AutoRefine, large model", size="large"),
    Arm(
        name="search_r1_small",
        title="Search-R1, small model",
        demonstrator=_SEARCH_R1,
        reward="search_r1",
        size="small",
    ),
    Arm(
        name="search_r1_large",
        title="Search-R1, large model",
        demonstrator=_SEARCH_R1,
        reward="search_r1",
        size="large",
    ),
)

ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _ARMS}
"""Name -> arm."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How a trained policy is tested."""

    name: str
    env_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    context: Literal["full", "refined"] = "full"
    """`refined`: documents leave the context once they are refined."""
    before: bool = False
    """Test the policy that training starts from."""


AS_TRAINED = Condition("as-trained")
BEFORE = Condition("before", before=True)
DROPPED = Condition("dropped", context="refined")
DEPTHS = {k: Condition(f"k-{k}", {"top_k": k}) for k in range(1, 8)}
NOISES = {n: Condition(f"noise-{n:g}", {"noise": n}) for n in (0.0, 0.5, 1.0, 2.0, 4.0)}
CONDITIONS: Mapping[str, Condition] = {
    condition.name: condition
    for condition in (AS_TRAINED, BEFORE, DROPPED, *DEPTHS.values(), *NOISES.values())
}
"""Name -> condition."""


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """An arm with a seed."""

    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}"
