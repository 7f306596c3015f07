"""What all command lines share."""

import argparse
import errno
import math
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from mmengine.config import DictAction

from mmshuffle.errors import UserError, patient_output

# mmengine imports it whenever it looks for a package; nothing that a user can change.
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')


# What is wrong with a file or a disk, whoever writes there: mmengine's logs and checkpoints, too.
OUTSIDE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


class ConfigOptions(DictAction):
    """``--cfg-options KEY=VALUE ...``, with one line where that form is not kept."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: list[str],
        option_string: str | None = None,
    ) -> None:
        """Parse the values into a dictionary."""
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError):
            raise UserError(f'{option_string} {" ".join(values)}: write KEY=VALUE') from None
        for value in values:
            key, _, text = value.partition('=')
            # mmengine drops the quotes before it looks for a number in them.
            quoted = re.fullmatch(r"""(['"])(?![\[(])(.*)\1""", text, re.DOTALL)
            if quoted:
                getattr(namespace, self.dest)[key] = quoted[2]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UserError(message)


def make_parser(description: str | None, example: str) -> Parser:
    """Make a parser whose help shows a tool's docstring and example as they are written."""
    layout = argparse.RawDescriptionHelpFormatter
    return Parser(description=description, epilog=example, formatter_class=layout)


def make_config_parser(description: str | None, example: str) -> Parser:
    """Make a parser of a config, the first argument, and its ``--cfg-options``."""
    parser = make_parser(description, example)
    parser.add_argument('config', help='config file or name of a shipped config')
    add_config_options(parser)
    return parser


def at_least(least: float, kind: type = int, most: float = math.inf) -> Callable[[str], float]:
    """Make the ``type`` of an argument that is a number within bounds."""

    def read(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            end = '' if most == math.inf else f', at most {most:g}'
            raise argparse.ArgumentTypeError(f'{text}: give a number of at least {least:g}{end}')
        return value

    read.__name__ = kind.__name__  # for argparse's own message
    return read


def add_shape(parser: argparse.ArgumentParser, text: str, least: int = 1) -> None:
    """Add ``--shape H W``."""
    size = dict(nargs=2, type=at_least(least), metavar=('H', 'W'))
    parser.add_argument('--shape', help=f'height and width of the image in pixels; {text}', **size)


def add_config_options(parser: argparse.ArgumentParser, **kwargs: Any) -> None:
    """Add ``--cfg-options`` to a command line."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='settings that override the config, as key=value, such as train_cfg.max_epochs=2; a '
        """list is key="[a,b]" or key=a,b, and text that looks like a number key="'1.1'\"""",
        **kwargs,
    )


def run(main: Callable[[], int | None]) -> None:
    """Run a command line: bad input is one line on stderr and exit code 2, Ctrl-C exit code 130."""
    with patient_output():
        code = _run(main)
    sys.exit(code or 0)


def _run(main: Callable[[], int | None]) -> int | None:
    try:
        code = main()
        _leave_process_group()
        return code
    except (Exception, KeyboardInterrupt) as error:
        # mmengine makes an error of Ctrl-C while it formats the config for a checkpoint.
        stopped = any(isinstance(e, KeyboardInterrupt) for e in (error, error.__context__))
        if stopped and not isinstance(error, UserError):
            print('interrupted', file=sys.stderr)
            return 130
        message = _message(error)
        if message is None:
            raise
        print(f'error: {message}', file=sys.stderr)
        return 2


def _message(error: BaseException) -> str | None:
    """What to say of a mistake of the user's, a file or a disk; None of any other error."""
    text = str(error)
    if isinstance(error, UserError):
        # A dataloader's worker hands over its whole traceback, with the message at the end.
        return text.strip().rpartition(f'{UserError.__name__}: ')[2]
    if isinstance(error, OSError) and error.errno in OUTSIDE:
        place = error.filename or 'a file'
        return f'{place} cannot be used: {error.strerror}; free space or choose another'
    # LoadImageFromFile, in a worker or not.
    found = re.search(r'failed to load image: (.+)', text)
    if isinstance(error, AssertionError) and found:
        return f'image {found[1].strip()} cannot be read: it does not decode; repair or remove it'
    if type(error).__module__ == 'cv2' and '!buf.empty()' in text:
        return 'an image file is empty; tools/verify_dataset.py says which'
    return None


def _leave_process_group() -> None:
    """End a distributed run together: gloo's threads abort a process that exits in their work.

    A thread that drops a finished work's tensors while the interpreter shuts down calls
    ``std::terminate``. The barrier waits for all earlier works; DDP keeps the threads themselves
    alive after ``destroy_process_group``.
    """
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
