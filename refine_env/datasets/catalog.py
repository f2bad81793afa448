"""The table of datasets."""

from __future__ import annotations

from dataclasses import dataclass

from refine_env.suggestions import unknown_name

MINIWIKI = "miniwiki"
MIXED = "mixed"
DEFAULT_MIXTURE = {"nq": 0.5, "hotpotqa": 0.5}
"""What `AutoRefine-Mixed-v0` draws from unless told: the paper's training questions."""
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What the project knows of a dataset before it has seen its files."""

    title: str
    """The name as its authors write it."""
    hops: int | None = None
    """Hops of every question; None where they differ or are not known."""
    multi_hop: bool = False
    """Whether every question has several hops, though files may not say how many."""


DATASETS: dict[str, DatasetInfo] = {
    "hotpotqa": DatasetInfo("HotpotQA", hops=2),
    "2wikimultihopqa": DatasetInfo("2WikiMultihopQA", multi_hop=True),
    "musique": DatasetInfo("MuSiQue", multi_hop=True),
    "bamboogle": DatasetInfo("Bamboogle", hops=2),
    "nq": DatasetInfo("Natural Questions", hops=1),
    "triviaqa": DatasetInfo("TriviaQA", hops=1),
    "popqa": DatasetInfo("PopQA", hops=1),
    "custom": DatasetInfo("your own files"),
    MINIWIKI: DatasetInfo("MiniWiki"),
}
"""Dataset name, as in paths and question ids -> what is known of it."""


def dataset_info(name: str) -> DatasetInfo:
    """The entry of a dataset. Raises `ValueError` for an unknown name, with the nearest."""
    if name in DATASETS:
        return DATASETS[name]
    raise ValueError(unknown_name("dataset", name, DATASETS, name.lower()))


def check_split(split: str | None) -> None:
    """Raises `ValueError` for anything but train, dev, test and None."""
    if split is not None and split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)} or None, got {split!r}")
