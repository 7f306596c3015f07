"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""

import re


class UserError(Exception):
    """Bad input: the message says in one line what is wrong and how to mend it.

    Command lines print the message without a traceback and exit with code 2
    (:func:`mmshuffle.engine.cli.run`).
    """


def last_line(text: str) -> str:
    """The last line with a word in it, which is where programs and libraries say what failed."""
    lines = [line.strip() for line in text.splitlines() if re.search(r'\w', line)]
    return lines[-1] if lines else 'no message'


def build_failure(error: Exception) -> str:
    """Why a registry could not build something, without the classes that mmengine puts in front."""
    message = ' '.join(str(error.args[0] if error.args else error).split())
    return re.sub(r'^(class `\w+` in [\w/.]+: )+', '', message)
