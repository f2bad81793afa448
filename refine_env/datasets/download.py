"""Files from the Hugging Face hub: sizes first, resumed, verified, in place at once or not at all.

A folder is filled beside its place: `.<name>.partial` holds what has come so far, and is renamed
when every file has the size and the hash that the hub states. What is in a dataset's folder is
therefore whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from refine_env.datasets.sources import Source
from refine_env.files import DISK_ERRORS, naming

logger = logging.getLogger(__name__)

MANIFEST = ".prepared.json"
WAITS = (1.0, 3.0, 9.0)
"""Seconds before the second, third and fourth try when the server is not to be had."""
T = TypeVar("T")


class DownloadError(RuntimeError):
    """A download could not be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub describes it at one commit."""

    repo: str
    path: str
    commit: str
    size: int
    sha256: str = ""
    """Of large files; others have the hash of their git blob."""
    git_sha1: str = ""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def is_prepared(folder: Path, source: Source) -> bool:
    """Whether a former download put all these files there, and they still have their sizes."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {file["path"]: file for file in manifest["files"]}
        return manifest["repo"] == source.repo and all(
            (folder / path.rpartition("/")[2]).stat().st_size == files[path]["size"]
            for path in source.paths
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def describe(source: Source, waits: Sequence[float] = WAITS) -> list[HubFile]:
    """Ask the hub for sizes and hashes of the files. Raises `DownloadError`."""
    hub = _hub()
    api = hub.HfApi()

    def ask() -> list[HubFile]:
        commit = api.dataset_info(source.repo, revision=source.revision).sha
        infos = api.get_paths_info(
            source.repo, list(source.paths), repo_type="dataset", revision=commit
        )
        found = {info.path: info for info in infos if hasattr(info, "size")}
        missing = [path for path in source.paths if path not in found]
        if missing:
            raise DownloadError(
                f"{source.repo} has no {', '.join(missing)} (any more) at {commit}; "
                "put the files into the folder by hand, or name them with data_dir="
            )
        return [_hub_file(source.repo, commit, found[path]) for path in source.paths]

    with _explained(source.repo):
        return _patiently(ask, waits)


def _hub_file(repo: str, commit: str, info: Any) -> HubFile:
    if info.lfs is not None:
        return HubFile(repo, info.path, commit, info.lfs.size, sha256=info.lfs.sha256)
    return HubFile(repo, info.path, commit, info.size, git_sha1=info.blob_id)


def missing_bytes(folder: Path, files: Sequence[HubFile]) -> int:
    """How much of the files has not been downloaded yet."""
    partial = _partial(folder)
    total = 0
    for file in files:
        places = (folder / file.name, partial / file.name, partial / f"{file.name}.part")
        there = max((place.stat().st_size for place in places if place.is_file()), default=0)
        total += max(file.size - there, 0)
    return total


def fetch(folder: Path, files: Sequence[HubFile], waits: Sequence[float] = WAITS) -> None:
    """Download what is missing, verify all, and put it into the folder.

    Raises `DownloadError`; what has come by then is kept, and the next call goes on from there.
    """
    try:
        with naming(_partial(folder)):
            _fetch(folder, files, waits)
    except OSError as error:
        raise DownloadError(
            f"{folder} cannot be filled ({error}). What has come is kept: make room, and the same "
            "command goes on from there"
        ) from error


def _fetch(folder: Path, files: Sequence[HubFile], waits: Sequence[float]) -> None:
    partial = _partial(folder)
    partial.mkdir(parents=True, exist_ok=True)
    for file in files:
        there = folder / file.name
        if there.exists():
            if there.stat().st_size != file.size or not _is_intact(there, file):
                raise DownloadError(
                    f"{there} is another file than {file.repo} has; move it away first"
                )
        elif not (partial / file.name).exists():
            _fetch_file(partial, file, waits)
    manifest = {"repo": files[0].repo, "files": [asdict(file) for file in files]}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    _place(partial, folder)


def _fetch_file(partial: Path, file: HubFile, waits: Sequence[float]) -> None:
    """One file into the partial folder under its own name, once it is verified."""
    part = partial / f"{file.name}.part"
    cached = _hub().try_to_load_from_cache(
        file.repo, file.path, revision=file.commit, repo_type="dataset"
    )
    if isinstance(cached, str):
        shutil.copyfile(cached, part)
    else:
        with _explained(f"{file.repo}: {file.path}"):
            _patiently(lambda: _download(part, file), waits)
    if not _is_intact(part, file):
        part.unlink()
        raise DownloadError(
            f"{file.repo}: {file.path} came with another hash than the hub states and was "
            "removed; try again, or another HF_ENDPOINT"
        )
    part.replace(partial / file.name)


def _download(part: Path, file: HubFile) -> None:
    hub = _hub()
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hub.hf_hub_url(file.repo, file.path, repo_type="dataset", revision=file.commit)
    have = part.stat().st_size if part.exists() else 0
    if have > file.size:
        part.unlink()
        have = 0
    if have == file.size and part.exists():
        return
    with part.open("ab") as stream:
        try:
            # The client's own files start anew in every process; this one goes on where it was.
            http_get(
                url,
                stream,
                resume_size=have,
                headers=build_hf_headers(),
                expected_size=file.size,
                displayed_filename=file.name,
            )
        finally:
            stream.flush()
            os.fsync(stream.fileno())


def _is_intact(path: Path, file: HubFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    digest = hashlib.sha256()
    if not file.sha256:
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(b"blob %d\0" % file.size)
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest() == (file.sha256 or file.git_sha1)


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    # The folder holds files of the user's: ours go beside them, the manifest last.
    for path in sorted(partial.iterdir(), key=lambda path: path.name == MANIFEST):
        path.replace(folder / path.name)
    partial.rmdir()


def _patiently(action: Callable[[], T], waits: Sequence[float]) -> T:
    """Try again while the server is busy or not to be had."""
    for wait in waits:
        try:
            return action()
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            transport = type(error).__module__.partition(".")[0].startswith(("httpx", "httpcore"))
            if not (transport or (status is not None and status >= 500)):
                raise
            logger.warning("%s; trying again in %g s", _first_line(error), wait)
            time.sleep(wait)
    return action()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the client's errors into a `DownloadError` that says what to do."""
    from huggingface_hub import constants, errors

    try:
        yield
    except DownloadError:
        raise
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(f"{what}: HF_HUB_OFFLINE is set, so nothing is downloaded") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise DownloadError(
            f"{what} is not on {constants.ENDPOINT}, or asks for a login (hf auth login)"
        ) from error
    except errors.EntryNotFoundError as error:
        raise DownloadError(f"{what} is not on {constants.ENDPOINT} (any more)") from error
    except Exception as error:  # the client's transport has error classes of its own
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        raise DownloadError(
            f"{what} could not be downloaded from {constants.ENDPOINT}: {_first_line(error)}. "
            "What has come is kept: the same command goes on from there"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            "downloads need huggingface_hub: pip install 'refine-env[data]'"
        ) from error
    return huggingface_hub
