"""What all command lines share."""

import sys
from collections.abc import Callable

from mmshuffle.errors import UserError


def run(main: Callable[[], int | None]) -> None:
    """Run a command line: bad input is one line on stderr and exit code 2, Ctrl-C exit code 130."""
    try:
        code = main()
        _leave_process_group()
    except UserError as error:
        # A dataloader's worker hands over its whole traceback, with the message at the end.
        message = str(error).strip().rpartition(f'{UserError.__name__}: ')[2]
        print(f'error: {message}', file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        code = 130
    sys.stdout.flush()
    sys.exit(code or 0)


def _leave_process_group() -> None:
    """Stop the communication threads of a distributed run: at exit they would abort the process."""
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
