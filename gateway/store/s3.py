"""Blobs in an S3-compatible object store, read through a bounded cache of local files.

An object is named by its SHA-256 and written with If-None-Match, so it is never overwritten; a retry whose first
answer was lost finds it there, which is success: the name says what the bytes are. Reading streams an object once
into the cache, checks its SHA-256 and serves from there; the least recently used files go when the cache is full.
Scratch files lie beside the cache. Failures: NotFound; Unavailable when the store is away or its bytes are not the
ones that the name says.

URL: `s3://bucket/prefix?endpoint=https://host&region=…`; access keys from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
"""

import contextlib
import hashlib
import os
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import S3Store

from .. import clock
from ..errors import ConfigError, NotFound, Unavailable
from .blobs import Blob, check_digest, digest_of


class S3Blobs:
    """See the module. `cache_bytes` bounds the cache; a file that is open stays readable when it leaves it."""

    def __init__(self, url: str, directory: Path, cache_bytes: int = 4 << 30) -> None:
        self._store, self._prefix = open_store(url)
        self._cache, self._scratch = directory / "cache", directory / "scratch"
        for folder in (self._cache, self._scratch):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._scratch.iterdir():
            leftover.unlink()
        self._limit = cache_bytes
        self._lock = threading.Lock()
        self._cached = sum(file.stat().st_size for file in self._cache.iterdir())

    def put(self, content: bytes) -> Blob:
        """See Blobs.put."""
        blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
        self._upload(blob.sha256, content)
        return blob

    def adopt(self, path: Path) -> Blob:
        """See Blobs.adopt."""
        try:
            blob = digest_of(path)
            self._upload(blob.sha256, path)
            return blob
        finally:
            path.unlink(missing_ok=True)

    def open(self, sha256: str) -> int:
        """See Blobs.open."""
        for _ in range(3):  # the cache may drop the file between `path` and here
            with contextlib.suppress(FileNotFoundError):
                return os.open(self.path(sha256), os.O_RDONLY | os.O_CLOEXEC)
        raise Unavailable("the cache of the store is too small for what is read at once; try again")

    def path(self, sha256: str) -> Path:
        """See Blobs.path."""
        path = self._cache / check_digest(sha256)
        try:
            os.utime(path)  # used now: the last to leave
        except FileNotFoundError:
            self._download(sha256, path)
        return path

    def scratch(self) -> Path:
        """See Blobs.scratch."""
        return self._scratch / clock.new_id("tmp")

    def remove(self, sha256: str) -> None:
        """See Blobs.remove."""
        try:
            obstore.delete(self._store, self._key(sha256))
        except NotFoundError:
            pass
        except BaseError as error:
            raise Unavailable("the object store does not answer; try again") from error
        (self._cache / sha256).unlink(missing_ok=True)

    def free_percent(self) -> float:
        """See Blobs.free_percent: of the disk that holds cache and scratch files; the store itself has no end."""
        space = os.statvfs(self._cache)
        return 100.0 * space.f_bavail / max(space.f_blocks, 1)

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}{sha256[:2]}/{sha256}"

    def _upload(self, sha256: str, content: bytes | Path) -> None:
        try:
            obstore.put(self._store, self._key(sha256), content, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return
        except BaseError as error:
            raise Unavailable("the object store does not take the bytes; try again") from error

    def _download(self, sha256: str, path: Path) -> None:
        temporary = self.scratch()
        try:
            with temporary.open("xb") as file:
                for chunk in obstore.get(self._store, self._key(sha256)).stream():
                    file.write(chunk)
            if digest_of(temporary).sha256 != sha256:
                raise Unavailable(
                    "the object store gave other bytes than were kept", code="blob_changed", sha256=sha256
                )
            size = temporary.stat().st_size
            os.replace(temporary, path)
        except (NotFoundError, FileNotFoundError):
            raise NotFound("these bytes are not in the store", sha256=sha256) from None
        except BaseError as error:
            raise Unavailable("the object store does not answer; try again") from error
        finally:
            temporary.unlink(missing_ok=True)
        self._make_room(size)

    def _make_room(self, added: int) -> None:
        """Drop the least recently used files down to 90 % of the limit, once it is passed."""
        with self._lock:
            self._cached += added
            if self._cached <= self._limit:
                return
            files = sorted((s.st_mtime_ns, s.st_size, f) for f in self._cache.iterdir() for s in [f.stat()])
            self._cached = sum(size for _, size, _ in files)
            for _, size, file in files[:-1]:  # the newest is about to be read
                if self._cached <= self._limit * 0.9:
                    return
                file.unlink(missing_ok=True)
                self._cached -= size


def open_store(url: str) -> tuple[S3Store, str]:
    """The store and the prefix (with its slash) of an `s3://` URL; ConfigError when it is none."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise ConfigError("[store.blobs] must be s3://bucket/prefix?endpoint=…&region=…", where="[store.blobs]")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    unknown = set(query) - {"endpoint", "region"}
    if unknown:
        raise ConfigError(f"[store.blobs] has no parameter {sorted(unknown)[0]!r}", where="[store.blobs]")
    endpoint = query.get("endpoint")
    try:
        store = S3Store(
            parts.netloc,
            endpoint=endpoint,
            region=query.get("region", "us-east-1"),
            virtual_hosted_style_request=False,
            client_options={"allow_http": endpoint is not None and endpoint.startswith("http://")},
        )
    except BaseError as error:
        raise ConfigError(f"[store.blobs] {error}", where="[store.blobs]") from error
    prefix = parts.path.strip("/")
    return store, f"{prefix}/" if prefix else ""
