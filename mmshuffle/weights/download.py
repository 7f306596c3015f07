"""Downloads that are whole and verified or absent, also with several processes at once."""

import contextlib
import hashlib
import logging
import os
import re
import socket
import ssl
import string
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlparse

import torch
from filelock import FileLock  # PyTorch requires it
from mmengine.logging import print_log

from mmshuffle.errors import UserError, one_line

# Seconds without a byte after which the connection counts as lost.
TIMEOUT = 30
NETWORK = (URLError, ssl.SSLError, ConnectionError, TimeoutError, HTTPException)
BY_HAND = 'or fetch it by hand and give its path'
# Eight digits that are a date are no hash, though they look like one.
DIGEST = re.compile(r'-(?!(?:19|20)\d{6}\.)([a-f0-9]{8,64})\.')


def fetch(
    url: str,
    sha256: str | None = None,
    file_name: str | None = None,
    check: Callable[[Path, str], None] | None = None,
) -> Path:
    """Download a file into torch's hub cache, unless it is there.

    It takes its name when it is whole and verified. Several processes of a machine, such as the
    ranks of a run, wait for the one that downloads.

    Args:
        sha256: First hex digits, or all, of the file's SHA-256; where None, those that its name
            ends in by the convention of torch's hub.
        file_name: Name in the cache, see :func:`cache_path`.
        check: Called with the path and the address of a file without a hash; raises ``UserError``
            where it is not whole.

    Raises:
        UserError: The address or the network fails, the disk is full, or the file is another one.
    """
    path = cache_path(url, file_name)
    if os.path.isfile(path):  # also of a name that is too long, which Path.is_file() reports
        return path
    sha256 = sha256 or digest_in(path.name)
    partial = path.with_name(f'.{path.name}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The lock stays: whoever waits for it has it open.
        with FileLock(path.with_name(f'.{path.name}.lock')):
            # Another process may have brought the file while this one waited.
            if not path.is_file():
                print_log(f'downloading {url} to {path}', logger='current', level=logging.INFO)
                try:
                    _download(url, partial, sha256)
                    if sha256 is None and check is not None:
                        check(partial, url)
                    os.replace(partial, path)
                finally:
                    partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f'cannot write {path}: {error.strerror or one_line(error)}; free some space, or '
            'choose another folder with the environment variable TORCH_HOME'
        ) from None
    return path


def cache_path(url: str, file_name: str | None = None) -> Path:
    """Where :func:`fetch` keeps a file.

    Args:
        file_name: Name to use; where None, that of the address, as torch's hub does. If no hash
            tells it from others of that name, the address is made a part of it.
    """
    if file_name is None:
        try:
            given = Path(unquote(urlparse(url).path))
        except ValueError as error:
            raise UserError(f'{url} is no address: {error}; give that of a file') from None
        if not given.name or '\0' in given.name:
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


def _download(url: str, partial: Path, sha256: str | None) -> None:
    try:
        with _timeout():
            # Servers are asked in ASCII, and people copy addresses as browsers show them.
            asked = quote(url, safe=string.punctuation)
            # No progress bar where nobody watches, such as in the log of a batch job.
            torch.hub.download_url_to_file(
                asked, str(partial), hash_prefix=sha256, progress=sys.stderr.isatty()
            )
    except RuntimeError as error:  # of another hash
        reason = f'is not whole, or not the file that was published: {one_line(error)}'
        raise UserError(f'{url} {reason}; try again, {BY_HAND}') from None
    except (*NETWORK, ValueError) as error:  # the last one is of a host's name
        fix = 'try again when the network is there'
        cause = error.reason if isinstance(error, URLError) else error
        reason = one_line(cause) if isinstance(cause, Exception) else str(cause)
        if isinstance(error, HTTPError):
            reason = f'the server answers {error.code} {error.reason}'
        if isinstance(error, (HTTPError, ValueError)):
            fix = 'correct the address'
        raise UserError(f'cannot download {url}: {reason}; {fix}, {BY_HAND}') from None


@contextlib.contextmanager
def _timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
