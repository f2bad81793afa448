"""Indexes of vectors on faiss: built of a stream of blocks, opened memory-mapped, searched."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refine_env.datasets.passages import map_array
from refine_env.retrieval.dense import kinds
from refine_env.retrieval.dense.kinds import KindOptions
from refine_env.retrieval.dense.published import write_flat
from refine_env.retrieval.dense.threads import one_thread_after_a_fork
from refine_env.retrieval.dense.vectors import VectorSource, blocks, sample

logger = logging.getLogger(__name__)

INDEX_FILE = "vectors.faiss"
REFINE_FILE = "refine.faiss"
CODES_FILE = "refine.npy"
_TRAIN_ROUNDS = 10
_SAMPLE_SQ8 = 65_536
"""Vectors of which the range of each of their numbers is taken."""
_REFINED_AT_ONCE = 64
"""Queries whose candidates are unpacked together: about 20 MB."""

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores and places, `[queries, k]`, best first; place -1 is no hit."""


def faiss() -> Any:
    """The library. Raises `ImportError` that names the extra."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError("dense needs faiss: pip install 'refine-env[dense]'") from error
    return faiss


class VectorIndex:
    """An opened index of vectors; inner product, exact or nearly so."""

    def __init__(self, folder: Path, options: KindOptions, count: int, dimension: int) -> None:
        """Map the files of a folder that `build_vectors` wrote.

        Only for folders whose manifest and sizes were checked. Raises `ValueError` where the files
        are not what `options`, `count` and `dimension` say.
        """
        library = faiss()
        self.options = options
        try:
            self._index = library.read_index(str(folder / INDEX_FILE), library.IO_FLAG_MMAP_IFC)
            self._refine = self._codes = None
            if options.kind == kinds.IVF_RABITQ:
                self._refine = library.read_index(str(folder / REFINE_FILE))
                self._codes = map_array(folder / CODES_FILE)
        except (RuntimeError, OSError) as error:
            raise ValueError(
                f"{folder}: faiss {library.__version__} cannot read the vectors ({error}); build "
                "the index again"
            ) from error
        index = self._index
        found = (type(index).__name__, index.ntotal, index.d, index.metric_type)
        wanted = (_CLASSES[options.kind or ""], count, dimension, library.METRIC_INNER_PRODUCT)
        if found != wanted:
            raise ValueError(f"{folder}: the vectors are {found}, the manifest says {wanted}")
        if self._codes is not None and self._codes.shape != (count, dimension):
            raise ValueError(f"{folder}: {CODES_FILE} has the shape {self._codes.shape}")
        if options.nprobe is not None:
            index.nprobe = options.nprobe
        if options.ef_search is not None:
            index.hnsw.efSearch = options.ef_search

    @property
    def count(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """The `k` vectors with the largest inner products. For threads and forked processes."""
        one_thread_after_a_fork()
        k = min(k, self.count)
        if self._codes is None:
            parameters = None
            if self.options.ef_search is not None and self.options.ef_search < k:
                parameters = faiss().SearchParametersHNSW(efSearch=k)
            scores, places = self._index.search(queries, k, params=parameters)
            return scores, places
        assert self.options.refine_factor is not None
        candidates = min(k * self.options.refine_factor, self.count)
        _, places = self._index.search(queries, candidates)
        found = []
        for start in range(0, len(queries), _REFINED_AT_ONCE):
            rows = slice(start, start + _REFINED_AT_ONCE)
            found.append(self._refined(queries[rows], places[rows], k))
        scores, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return scores, places

    def _refined(self, queries: NDArray[np.float32], places: NDArray[np.int64], k: int) -> Found:
        """The best `k` of each query's candidates, compared by their codes of a byte a number."""
        assert self._codes is not None and self._refine is not None
        flat = np.maximum(places, 0).ravel()
        vectors = self._refine.sa_decode(self._codes[flat]).reshape(*places.shape, -1)
        scores = np.matmul(vectors, queries[:, :, None])[:, :, 0]
        scores[places < 0] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)


_CLASSES = {
    kinds.FLAT: "IndexFlatIP",
    kinds.IVF_SQ8: "IndexIVFScalarQuantizer",
    kinds.HNSW_SQ8: "IndexHNSWSQ",
    kinds.IVF_RABITQ: "IndexIVFRaBitQ",
}


def build_vectors(
    source: VectorSource,
    folder: Path,
    options: KindOptions,
    advance: Callable[[int], object] = lambda n: None,
) -> None:
    """Write the files of an index into a folder.

    In memory are a sample for training, one block of vectors, and what is searched in the lists or
    the graph; flat vectors and the codes of a refining index go straight to disk. `options` is
    complete, see `KindOptions.for_count`. `advance` is told how many vectors were added.
    """
    if options.kind == kinds.FLAT:
        write_flat(source, folder / INDEX_FILE)
        advance(source.count)
        return
    library = faiss()
    index = library.index_factory(source.dimension, _recipe(options), library.METRIC_INNER_PRODUCT)
    refine = codes = None
    _train(index, source, options)
    if options.kind == kinds.IVF_RABITQ:
        refine, codes = _open_codes(source, folder)
    for block in blocks(source):
        index.add(block)
        if refine is not None and codes is not None:
            codes.write(refine.sa_encode(block).tobytes())
        advance(len(block))
    if codes is not None:
        codes.close()
    library.write_index(index, str(folder / INDEX_FILE))


def _recipe(options: KindOptions) -> str:
    if options.kind == kinds.HNSW_SQ8:
        return f"HNSW{options.links}_SQ8"
    return f"IVF{options.nlist},{'SQ8' if options.kind == kinds.IVF_SQ8 else 'RaBitQ'}"


def _train(index: Any, source: VectorSource, options: KindOptions) -> None:
    size = _SAMPLE_SQ8
    if options.nlist is not None:
        size = max(size, kinds.POINTS_PER_LIST * options.nlist)
        index.cp.niter = _TRAIN_ROUNDS
        index.cp.max_points_per_centroid = 4 * kinds.POINTS_PER_LIST
        # faiss warns below its own least of points for a list; a corpus has no more of them.
        index.cp.min_points_per_centroid = 1
    if options.ef_construction is not None:
        index.hnsw.efConstruction = options.ef_construction
    index.train(sample(source, size))


def _open_codes(source: VectorSource, folder: Path) -> tuple[Any, Any]:
    """A trained quantiser of one byte a number, saved, and the file for the codes."""
    library = faiss()
    kind = library.ScalarQuantizer.QT_8bit
    refine = library.IndexScalarQuantizer(source.dimension, kind, library.METRIC_INNER_PRODUCT)
    refine.train(sample(source, _SAMPLE_SQ8))
    library.write_index(refine, str(folder / REFINE_FILE))
    # Written, not mapped: a write through a map ends the process where the disk is full.
    codes = (folder / CODES_FILE).open("wb")
    shape = (source.count, source.dimension)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(codes, header)
    return refine, codes
