"""Long runs of the fuzzing harness: `python -m tests.adversarial.fuzz --executions 1000000`.

With atheris (`pip install atheris`) inputs are guided by what they reach; without it they are drawn
by mutation from the same seeds. Both run `harness.check`. A failing input is printed and kept.
`--engine readers` reads damaged files of questions and passages instead.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from refine_env.protocols import AUTOREFINE
from tests.adversarial.attacks import attacks
from tests.adversarial.damaged_files import drawn
from tests.adversarial.exploits import EXPLOITS
from tests.adversarial.harness import ALPHABET, PIECES, TARGETS, check
from tests.adversarial.read_files import check_file

MAX_BYTES = 200
SECONDS = 2.0
"""Of processor time, that reading a damaged file of a few kilobytes may take at most."""
BYTE_OF = {text: byte for byte, text in reversed(ALPHABET.items())}
_PIECE = re.compile("|".join(map(re.escape, sorted(PIECES, key=len, reverse=True))) + "|.", re.S)


def encoded(text: str) -> bytes:
    """Bytes that spell the beginning of the text, as far as the alphabet goes."""
    found = _PIECE.findall(text[: 2 * MAX_BYTES])
    return bytes(BYTE_OF[piece] for piece in found if piece in BYTE_OF)[:MAX_BYTES]


@lru_cache(maxsize=1)
def seeds() -> tuple[bytes, ...]:
    """An input for each target of every fifth attack and of every exploit."""
    spelt = [b"\0".join(map(encoded, a.passages[0])) for a in attacks(AUTOREFINE.tags)][::5]
    spelt += [b"\0".join(encoded(action) for action in e.actions) for e in EXPLOITS]
    targets = range(len(TARGETS))
    return tuple(
        bytes([target + 8 * (n % 4)]) + s for n, s in enumerate(spelt) for target in targets
    )


def mutated(pool: Sequence[bytes], rng: random.Random) -> bytes:
    """An input of the pool after one to six changes; its first byte at random now and then."""
    data = bytearray(rng.choice(pool))
    for _ in range(rng.randint(1, 6)):
        at, what = rng.randrange(len(data)) + 1, rng.randrange(6)
        if what == 0:
            data[at:at] = bytes([rng.randrange(256)])
        elif what == 1:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif what == 2:
            del data[at : at + rng.randint(1, 8)]
        elif what == 3:
            piece = data[at : at + rng.randint(1, 12)]
            data[at:at] = piece * rng.randint(1, 4)
        elif what == 4:
            other = rng.choice(pool)
            data[at:] = other[min(at, len(other)) :]
        else:
            data[0] = rng.randrange(256)
    return bytes(data[:MAX_BYTES])


def by_mutation(executions: int, seed: int, keep: Path) -> int:
    """Run that many inputs; the number of failures."""
    rng, pool, failures = random.Random(seed), list(seeds()), 0
    base = len(pool)
    for number in range(executions):
        data = pool[number] if number < base else mutated(pool, rng)
        failures += not _holds(data, keep)
        if rng.random() < 0.01:  # so that changes add up
            if len(pool) < 5 * base:
                pool.append(data)
            else:
                pool[rng.randrange(base, len(pool))] = data
    return failures


def _holds(data: bytes, keep: Path) -> bool:
    try:
        check(data)
    except Exception:
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / f"failure-{abs(hash(data)):x}.bin"
        path.write_bytes(data)
        print(f"FAILED {data!r}, kept in {path}")
        traceback.print_exc()
        return False
    return True


def of_readers(executions: int, seed: int, keep: Path) -> int:
    """Read that many damaged files; the number of failures. Says how many of each format held."""
    rng, failures, outcomes = random.Random(seed), 0, Counter[str]()
    logging.disable()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(executions):
            found, started = drawn(rng), time.process_time()
            try:
                outcome = check_file(found, Path(folder))
                assert time.process_time() - started < SECONDS, "it took too long"
                outcomes[f"{found.suffix} {outcome}"] += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                failures += 1
                keep.mkdir(parents=True, exist_ok=True)
                path = keep / f"failure-{seed}-{number}-{found.name}"
                path.write_bytes(found.data)
                print(f"FAILED {found.style}, kept in {path}")
                traceback.print_exc()
    logging.disable(logging.NOTSET)
    print(", ".join(f"{name} {count:,}" for name, count in sorted(outcomes.items())))
    return failures


def with_atheris(executions: int, seed: int, keep: Path) -> int:
    """Run that many inputs in a process of their own, up to the first failure."""
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds()):
            (Path(folder) / f"seed-{number}").write_bytes(data)
        options = [f"-runs={executions}", f"-seed={seed}", f"-max_len={MAX_BYTES}"]
        options += [f"-artifact_prefix={keep}/", "-print_final_stats=1"]
        command = [sys.executable, "-m", "tests.adversarial.guided", *options, folder]
        return int(subprocess.run(command, check=False).returncode != 0)


def main() -> int:
    """Run and report; the exit status is 1 when an input failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--engine", choices=("auto", "atheris", "mutation", "readers"), default="auto"
    )
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    args = parser.parse_args()
    there = importlib.util.find_spec("atheris") is not None
    engine = args.engine if args.engine != "auto" else "atheris" if there else "mutation"
    started = time.perf_counter()
    runs = {"atheris": with_atheris, "mutation": by_mutation, "readers": of_readers}
    failures = runs[engine](args.executions, args.seed, args.keep)
    seconds = time.perf_counter() - started
    print(
        f"engine {engine}, seed {args.seed}: {args.executions:,} executions, {failures} failures, "
        f"{seconds:.0f} s, {args.executions / max(seconds, 1e-9):,.0f} a second"
    )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
