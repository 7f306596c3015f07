"""How a command line ends."""

import pytest

from mmshuffle.engine import cli
from mmshuffle.errors import UserError


def ended(main, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    return caught.value.code, capsys.readouterr().err


def test_a_mistake_of_the_user_is_one_line(capsys):
    def main():
        raise UserError('mend that')

    assert ended(main, capsys) == (2, 'error: mend that\n')


def test_an_interruption_is_told_also_where_a_library_makes_an_error_of_it(capsys):
    def stopped():
        raise KeyboardInterrupt

    def wrapped():
        try:
            stopped()
        except BaseException:
            raise SyntaxError('Failed to format the config file') from None

    for main in (stopped, wrapped):
        assert ended(main, capsys) == (130, 'interrupted\n')


def test_other_errors_keep_their_traceback():
    def main():
        try:
            raise KeyError
        except KeyError as error:
            raise ZeroDivisionError from error

    with pytest.raises(ZeroDivisionError):
        cli.run(main)
