"""OpenMP after a fork.

faiss and torch each keep a pool of OpenMP threads for every thread that has used one. A forked
child inherits the pool's description without its threads, and waits for them for ever at its first
parallel region. With one thread it needs no pool. Tried with faiss-cpu 1.15.1 and torch 2.13: both
settings are needed, and either thread of the child may search then.

tokenizers has a pool of its own, which it leaves alone after a fork unless TOKENIZERS_PARALLELISM
says true: then a child waits for ever at its first batch of texts.
"""

from __future__ import annotations

import multiprocessing
import os
import sys

_home = os.getpid()
"""The process that imported this module; in a forked child another than the one it runs in."""


def is_forked() -> bool:
    """Whether this process is a forked child, of a parent that may have used OpenMP."""
    if os.getpid() != _home:
        return True
    process = multiprocessing.current_process()
    if multiprocessing.parent_process() is None:
        return False
    # The child may have imported this module itself, after a parent that used torch without it.
    if type(process) is multiprocessing.Process:
        return multiprocessing.get_start_method() == "fork"
    return isinstance(process, getattr(multiprocessing.context, "ForkProcess", ()))


def one_thread_after_a_fork() -> None:
    """In a forked child let faiss, torch and tokenizers use one thread; elsewhere do nothing.

    Called before every search, as the setting belongs to the calling thread.
    """
    if not is_forked():
        return
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # looked up at every call
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(1)
    # Without asking first how many it uses: the answer may be faiss's setting, which MKL's threads,
    # that torch sets too, do not follow.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
