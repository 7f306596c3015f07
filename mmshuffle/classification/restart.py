"""Cutting a part out of a JPEG without decoding it, where it has restart markers."""

import dataclasses
import shutil
import subprocess

import numpy as np

from mmshuffle.errors import UserError

from .decoding import COLOUR_MARGIN, Box, JpegHeader, read_header

END_OF_IMAGE = (0xFF, 0xD9)


@dataclasses.dataclass(frozen=True)
class Grid:
    """How restart intervals tile an image.

    Attributes:
        columns: Intervals side by side; 1 where an interval is as wide as the image.
        rows: Intervals one below the other.
        width: Of an interval, in pixels.
        height: Of an interval, in pixels.
    """

    columns: int
    rows: int
    width: int
    height: int


def grid_of(header: JpegHeader) -> Grid | None:
    """Restart intervals as tiles; None where there are none or a row does not end with one."""
    interval = header.restart_interval
    if not interval or not header.one_scan:
        return None
    mcus = -(-header.width // header.mcu_width)
    mcu_rows = -(-header.height // header.mcu_height)
    if mcus % interval == 0:
        return Grid(mcus // interval, mcu_rows, interval * header.mcu_width, header.mcu_height)
    if interval % mcus == 0:
        height = interval // mcus
        return Grid(1, -(-mcu_rows // height), mcus * header.mcu_width, height * header.mcu_height)
    return None


def cut(data: bytes, header: JpegHeader, box: Box) -> tuple[bytes, JpegHeader, Box]:
    """Leave out the restart intervals that a part of an image does not touch.

    Decoding starts afresh at a restart marker (ITU-T T.81, E.2.4), so intervals can be taken out
    of a file and put together to a smaller JPEG of exactly the same pixels. Most of the time a
    decoder takes goes into reading the code, which it otherwise has to do from the first pixel on.

    Args:
        data: The file.
        header: Its header.
        box: The part, in pixels of the stored image.

    Returns:
        A smaller file, its header and where the part is in it; the arguments where nothing can be
        left out.
    """
    grid = grid_of(header)
    if grid is None:
        return data, header, box
    margin = COLOUR_MARGIN if header.subsampled else 0
    left = max(0, box.x - margin) // grid.width
    top = max(0, box.y - margin) // grid.height
    right = min(grid.columns, -(-(box.x + box.width + margin) // grid.width))
    bottom = min(grid.rows, -(-(box.y + box.height + margin) // grid.height))
    if (right - left) * (bottom - top) == grid.columns * grid.rows:
        return data, header, box
    bounds = _intervals(data, header.scan_at, grid.columns * grid.rows)
    if bounds is None:
        return data, header, box
    starts, ends = (b.reshape(grid.rows, grid.columns)[top:bottom, left:right] for b in bounds)
    width = min(header.width, right * grid.width) - left * grid.width
    height = min(header.height, bottom * grid.height) - top * grid.height
    return (
        _join(header.with_size(data, height, width), data, starts, ends),
        dataclasses.replace(header, width=width, height=height),
        box._replace(x=box.x - left * grid.width, y=box.y - top * grid.height),
    )


def _join(head: bytes, data: bytes, starts: np.ndarray, ends: np.ndarray) -> bytes:
    """Put intervals, (rows, columns), behind a header and number the markers between them."""
    # Side by side they already follow each other in the file.
    rows = zip(starts[:, 0].tolist(), ends[:, -1].tolist())
    view = memoryview(data)
    joined = np.frombuffer(bytearray().join((head, *(view[a:b] for a, b in rows))), np.uint8)
    last_bytes = len(head) + np.cumsum(ends - starts) - 1
    joined[last_bytes] = 0xD0 + np.arange(last_bytes.size) % 8
    joined[-2:] = END_OF_IMAGE
    return joined.tobytes()


def _intervals(data: bytes, scan_at: int, expected: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Where restart intervals start and, with the marker behind them, end.

    Args:
        data: The file.
        scan_at: Where the first one starts.
        expected: Number of intervals.

    Returns:
        None if another number is found, or the image does not end behind them.
    """
    scan = np.frombuffer(data, np.uint8, offset=scan_at)
    at = np.flatnonzero(scan[:-1] == 0xFF)
    following = scan[at + 1]
    restart = (following & 0xF8) == 0xD0
    # 0xFF00 stands for 0xFF in the code, and 0xFF may be repeated before a marker.
    others = at[~restart & (following != 0) & (following != 0xFF)]
    if not others.size or scan[others[0] + 1] != END_OF_IMAGE[1]:
        return None
    markers = at[restart]
    markers = markers[markers < others[0]]
    if markers.size != expected - 1:
        return None
    ends = scan_at + 2 + np.append(markers, others[0])
    return np.append(scan_at, ends[:-1]), ends


def markers_wanted(header: JpegHeader) -> str:
    """The value of jpegtran's ``-restart`` that gives tiles of about 80 pixels a row of MCUs.

    Smaller ones cost bytes and time, larger ones leave less out; only a divisor of the row's MCUs
    makes columns of tiles.
    """
    mcus = -(-header.width // header.mcu_width)
    wide_enough = [n for n in range(1, mcus + 1) if mcus % n == 0 and n * header.mcu_width >= 48]
    return f'{min(wide_enough or [mcus], key=lambda n: abs(n * header.mcu_width - 80))}B'


def find_jpegtran() -> str:
    """Where the program jpegtran is.

    Raises:
        UserError: It is not there.
    """
    path = shutil.which('jpegtran')
    if path is None:
        raise UserError(
            'jpegtran is not there: apt-get install libjpeg-turbo-progs (brew install jpeg-turbo)'
        )
    return path


def add_markers(data: bytes) -> bytes | None:
    """Rewrite a JPEG with restart markers for :func:`cut`, with the very same pixels.

    Args:
        data: The file.

    Returns:
        The new file, about as large (the code is optimised); None where jpegtran cannot read the
        file or :func:`mmshuffle.classification.decoding.read_header` leaves it to others.

    Raises:
        UserError: The program jpegtran is not there.
    """
    header = read_header(data)
    if header is None:
        return None
    command = [find_jpegtran(), '-copy', 'all', '-optimize', '-restart', markers_wanted(header)]
    done = subprocess.run(command, input=data, capture_output=True)
    return done.stdout if done.returncode == 0 else None
