"""Pictures by matplotlib, without its global state and without a display."""

import io
from typing import TYPE_CHECKING

from mmshuffle.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> 'Figure':
    """Make an empty figure.

    Args:
        width: In inches.
        height: In inches.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(
            'matplotlib is not installed, so there is no plot: pip install matplotlib'
        ) from None
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: 'Figure', dpi: int = 150) -> bytes:
    """Draw a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi)
    return buffer.getvalue()
