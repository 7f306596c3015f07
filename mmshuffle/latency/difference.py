"""Two measurements side by side."""

from mmshuffle.analysis import markdown
from mmshuffle.errors import UserError

from .record import Record, summary_of
from .report import title


def to_markdown(first: Record, second: Record, names: tuple[str, str]) -> str:
    """Compare the networks that both have in the same setting.

    A difference is called one only where both are stable and their intervals do not overlap.

    Args:
        first: A measurement.
        second: Another one.
        names: What to call them.

    Raises:
        UserError: One is emulated, or they have nothing in common.
    """
    if first['target']['emulated'] or second['target']['emulated']:
        raise UserError('times of emulation are not compared: they say nothing about a device')
    others = {(r['config'], r['part'], title(r)): r for r in second['results']}
    rows = []
    for result in first['results']:
        key = result['config'], result['part'], title(result)
        if key not in others:
            continue
        mine, other = summary_of(result), summary_of(others[key])
        apart = mine.interval[1] < other.interval[0] or other.interval[1] < mine.interval[0]
        if not (mine.stable and other.stable):
            verdict = 'not known: unstable'
        elif not apart:
            verdict = 'same'
        else:
            verdict = 'faster' if other.median < mine.median else 'slower'
        change = f'{other.median / mine.median - 1:+.1%}'
        rows.append(
            [f'{key[0]}, {key[2]}', f'{mine.median:.3f}', f'{other.median:.3f}', change, verdict]
        )
    if not rows:
        raise UserError('the two have no network in common at the same size and setting')
    head = ['network', f'{names[0]}, ms', f'{names[1]}, ms', 'change of the median', 'second is']
    return markdown.table(head, rows)
