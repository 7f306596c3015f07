"""Downloads that are verified, go on where they broke off, and may run in several processes."""

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlparse
from urllib.request import Request, urlopen

import torch
from filelock import FileLock  # PyTorch requires it
from mmengine.logging import print_log
from tqdm import tqdm

from mmshuffle.errors import UserError

CHUNK = 1 << 18
# Seconds without a byte after which the connection counts as lost.
TIMEOUT = 30
BY_HAND = 'or fetch it by hand and give its path'
# Eight digits that are a date are no hash, though they look like one.
DIGEST = re.compile(r'-(?!(?:19|20)\d{6}\.)([a-f0-9]{8,64})\.')


def fetch(url: str, sha256: str | None = None, file_name: str | None = None) -> Path:
    """Download a file into torch's hub cache, unless it is there.

    The bytes go to a hidden neighbour, which takes its name when it is whole and verified. A broken
    download goes on where it ended, if the server says that the file is still the same. Several
    processes of a machine, such as the ranks of a run, wait for the one that downloads.

    Args:
        url: http(s) address.
        sha256: First hex digits, or all, of the file's SHA-256; where None, those that its name
            ends in by the convention of torch's hub, and else nothing is verified.
        file_name: Name in the cache, see :func:`cache_path`.

    Returns:
        The path in the cache.

    Raises:
        UserError: The address or the network fails, the disk is full, or the file is another one.
    """
    path = cache_path(url, file_name)
    if path.is_file():
        return path
    lock = FileLock(_beside(path, 'lock'))
    with _disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        # Another process may have brought it while this one waited for the lock.
        if not path.is_file():
            print_log(f'downloading {url} to {path}', logger='current', level=logging.INFO)
            partial = _beside(path, 'partial')
            _receive_whole(url, partial, path.name)
            _verify(partial, sha256 or digest_in(path.name), url)
            with _disk(path):
                os.replace(partial, path)
            _note(partial).unlink(missing_ok=True)
        # Harmless now: whoever makes the lock anew finds the file.
        Path(lock.lock_file).unlink(missing_ok=True)
    finally:
        lock.release()
    return path


def cache_path(url: str, file_name: str | None = None) -> Path:
    """Where :func:`fetch` keeps a file.

    Args:
        url: http(s) address.
        file_name: Name to use; where None, that of the address, as torch's hub does. If no hash
            tells it from others of that name, the address is made a part of it.

    Raises:
        UserError: The address names no file.
    """
    if file_name is None:
        given = Path(unquote(urlparse(url).path))
        if not given.suffix:
            raise UserError(f'{url} names no weight file; give the address of one')
        file_name = given.name
        if digest_in(file_name) is None:
            # With an underscore, because a hyphen would make it the hash of the file.
            file_name = f'{given.stem}_{hashlib.sha256(url.encode()).hexdigest()[:8]}{given.suffix}'
    return Path(torch.hub.get_dir()) / 'checkpoints' / file_name


def digest_in(file_name: str) -> str | None:
    """First hex digits of a file's SHA-256 that its name ends in, as in ``net-0a1b2c3d.pth``."""
    found = DIGEST.search(file_name)
    return found[1] if found else None


def hash_file(path: Path) -> str:
    """SHA-256 of a file in hex digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _receive_whole(url: str, partial: Path, title: str) -> None:
    """Go on over lost connections, as long as each brings the file forward."""
    while True:
        before = _size(partial)
        try:
            response, offset = _open(url, partial)
            with response:
                _receive(response, url, partial, offset, title)
            return
        except HTTPError as error:
            raise UserError(
                f'cannot download {url}: the server answers {error.code} {error.reason}; mend the '
                f'address, {BY_HAND}'
            ) from None
        except (OSError, HTTPException) as error:
            if _size(partial) <= before:
                reason = error.reason if isinstance(error, URLError) else error
                raise UserError(
                    f'cannot download {url}: {_one_line(reason)}; try again when the network is '
                    f'there, {BY_HAND}'
                ) from None


def _open(url: str, partial: Path) -> tuple[HTTPResponse, int]:
    """Ask for what ``partial`` lacks, or for everything if that cannot be had.

    Returns:
        The response, and where in the file it begins.
    """
    headers = {'User-Agent': 'mmshuffle', 'Accept-Encoding': 'identity'}
    note = _read_note(partial)
    offset = _size(partial)
    if offset and note.get('url') == url:
        part = {'Range': f'bytes={offset}-', 'If-Range': note['validator']}
        try:
            response = urlopen(Request(url, headers=headers | part), timeout=TIMEOUT)
        except HTTPError as error:
            if error.code != 416:  # no such range: the file has become shorter
                raise
        else:
            if response.status != 206:
                return response, 0
            if _continues(response, offset, note):
                return response, offset
            response.close()
    return urlopen(Request(url, headers=headers), timeout=TIMEOUT), 0


def _continues(response: HTTPResponse, offset: int, note: dict) -> bool:
    """Whether a part belongs to the very file that was begun.

    A server that ignores If-Range would have its new file glued to the old one.
    """
    wanted = f'bytes {offset}-{note["total"] - 1}/{note["total"]}'
    same = _validator(response) in (None, note['validator'])
    return same and response.headers.get('Content-Range') == wanted


def _receive(response: HTTPResponse, url: str, partial: Path, offset: int, title: str) -> None:
    """Write a response to ``partial`` from ``offset`` on.

    Raises:
        OSError: The connection is lost; ``partial`` keeps what came.
        HTTPException: Likewise.
        UserError: The disk cannot be written, or the server sends a web page.
    """
    if response.headers.get_content_type() == 'text/html':
        raise UserError(
            f'{url} is a web page and no weight file; give the address of the file itself, '
            f'{BY_HAND}'
        )
    length = response.headers.get('Content-Length')
    total = None if length is None else offset + int(length)
    # No bar where nobody watches, such as in the log of a batch job.
    bar = tqdm(
        desc=title,
        total=total,
        initial=offset,
        unit='B',
        unit_scale=True,
        unit_divisor=1024,
        disable=None,
    )
    with _open_partial(partial, 'ab' if offset else 'wb') as file, bar:
        if not offset:
            with _disk(partial):
                _write_note(partial, url, _validator(response), total)
        while chunk := response.read(CHUNK):
            rest = memoryview(chunk)
            with _disk(partial):
                while rest:
                    rest = rest[file.write(rest) :]
            bar.update(len(chunk))
        with _disk(partial):
            os.fsync(file.fileno())
    if total is not None and _size(partial) < total:
        raise ConnectionError(f'the connection ended after {_size(partial)} of {total} bytes')


def _open_partial(partial: Path, mode: str) -> BinaryIO:
    with _disk(partial):
        # Unbuffered, or a full disk would be reported a second time when the file is closed.
        return open(partial, mode, buffering=0)


def _verify(partial: Path, sha256: str | None, url: str) -> None:
    if sha256 is None:
        return
    digest = hash_file(partial)
    if not digest.startswith(sha256):
        partial.unlink()
        _note(partial).unlink(missing_ok=True)
        raise UserError(
            f'{url} is not the file that was published: its SHA-256 begins with '
            f'{digest[: len(sha256)]}, not {sha256}; it is deleted: try again, {BY_HAND}'
        )


def _validator(response: HTTPResponse) -> str | None:
    """What tells this version of a file from others: a strong ETag, else the time of change."""
    etag = response.headers.get('ETag')
    return etag if etag and not etag.startswith('W/') else response.headers.get('Last-Modified')


def _write_note(partial: Path, url: str, validator: str | None, total: int | None) -> None:
    """Remember of which file ``partial`` is; without that it is never gone on with."""
    note = _note(partial)
    if validator is None or total is None:
        note.unlink(missing_ok=True)
    else:
        note.write_text(json.dumps({'url': url, 'validator': validator, 'total': total}))


def _read_note(partial: Path) -> dict:
    try:
        return json.loads(_note(partial).read_text())
    except (OSError, ValueError):  # none, or cut off when the process was killed
        return {}


def _note(partial: Path) -> Path:
    return partial.with_name(f'{partial.name}.json')


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f'.{path.name}.{kind}')


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Tell faults of the disk from those of the network, which are an OSError as well."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f'cannot write {path}: {error.strerror or _one_line(error)}; make room, or choose '
            'another folder with the environment variable TORCH_HOME'
        ) from None


def _one_line(reason: object) -> str:
    return ' '.join(str(reason).split()) or type(reason).__name__
