"""The processes of a run as `torchrun` starts them: who writes, who has which rows, who waits.

A run that nobody has launched so is one process, and everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

Row = TypeVar("Row")

_TIMEOUT = timedelta(hours=2)
"""How long one process may wait for another's rollouts. One that died is noticed by its launcher at
once; the libraries' limits of 10 to 30 minutes are shorter than a long evaluation."""


def processes() -> int:
    """How many processes the run has; 1 where no launcher has said so."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process among those of its machine, from 0: its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that writes files, prints and talks to W&B."""
    return rank() == 0


def join() -> None:
    """Meet the other processes, over NCCL where there is CUDA and over gloo elsewhere."""
    if processes() == 1:
        return
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available(), timeout=_TIMEOUT)


def wait() -> None:
    """Return when every process has come here."""
    if _joined():
        import torch

        torch.distributed.barrier()


def share(rows: Sequence[Row]) -> Sequence[Row]:
    """This process's part of `rows`; the parts differ by one row at most and keep the order."""
    if not _joined():
        return rows
    count, number = processes(), rank()
    return rows[len(rows) * number // count : len(rows) * (number + 1) // count]


def gathered(rows: Sequence[Row]) -> list[Row]:
    """The rows of all processes, in the order of their numbers; every process has to call."""
    if not _joined():
        return list(rows)
    import torch

    parts: list[Any] = [None] * processes()
    torch.distributed.all_gather_object(parts, list(rows))
    return [row for part in parts for row in part]


def gathered_by_main(rows: Sequence[Row]) -> list[Row] | None:
    """As `gathered`, for the main process alone: None elsewhere."""
    if not _joined():
        return list(rows)
    import torch

    parts: list[Any] | None = [None] * processes() if is_main() else None
    torch.distributed.gather_object(list(rows), parts)
    return None if parts is None else [row for part in parts for row in part]


def _joined() -> bool:
    if processes() == 1:
        return False
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()
