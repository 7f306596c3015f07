"""Files that tools write and read, with one line where that fails."""

import json
from pathlib import Path
from typing import Any

from mmshuffle.errors import UserError

from .checkpoint import AtomicBackend


def write(content: bytes, path: str | Path) -> None:
    """Write bytes, whole or not at all."""
    try:
        AtomicBackend().put(content, path)
    except OSError as error:
        raise UserError(
            f'cannot write {path}: {error.strerror or error}; free space or choose another place'
        ) from None


def write_json(content: Any, path: str | Path) -> None:
    """Write plain data as JSON, whole or not at all."""
    write(f'{json.dumps(content, indent=1)}\n'.encode(), path)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}') from None
    except ValueError as error:
        raise UserError(f'{path} is not JSON: {error}') from None
