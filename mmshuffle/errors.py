"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class UserError(Exception):
    """Bad input: the message says in one line what is wrong and how to mend it.

    Command lines print the message without a traceback and exit with code 2
    (:func:`mmshuffle.engine.cli.run`).
    """
