"""Records of tables: the rows of TSV, CSV and Parquet files."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from refine_env.datasets.record import Record, RecordErrors


def table_rows(
    path: Path, stream: TextIO, errors: RecordErrors, delimiter: str
) -> Iterator[Record]:
    """The rows of a table of text, by the names in its first line; broken ones go to `errors`.

    Raises `ValueError` for a cell that is longer than the csv module reads.
    """
    reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "field limit" in str(error):  # what follows are the rest of the cell, not rows
                raise ValueError(
                    f"{path}:{reader.line_num}: a cell of more than {csv.field_size_limit():,} "
                    "characters"
                ) from error
            errors.add(f"{path}:{reader.line_num}", str(error))
            continue
        if None in row or None in row.values():
            wanted = len(reader.fieldnames or ())
            errors.add(f"{path}:{reader.line_num}", f"not {wanted} columns as in the first line")
            continue
        yield Record(path, reader.line_num, dict(row))


def parquet_rows(path: Path) -> Iterator[Record]:
    """The rows of a Parquet file. Raises `ImportError` without pyarrow, `ValueError` for a file
    that cannot be read.
    """
    try:
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException
    except ImportError as error:
        raise ImportError(
            f"reading {path.name} needs pyarrow: pip install 'refine-env[data]'"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(_unpacked(path)) as file:
            for batch in file.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(path, number, row)
    except FileNotFoundError:
        raise
    except (ArrowException, OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{path} cannot be read after record {number}: {reason}") from error


def _unpacked(path: Path) -> Any:
    """The file itself; what is in it, in memory, where it is packed."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path
    with gzip.open(path) as packed:
        return io.BytesIO(packed.read())
