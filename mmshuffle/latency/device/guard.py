"""Puts frequency governors back when the runner ends, however it does.

It is passed to ``python3 -c`` as text, so that it is a process of its own: a runtime may hang with
Python's lock held, and a process can be killed. It must be whole in this one file.
"""

import json
import os
import select
import signal
import sys

HUNG_UP = select.POLLHUP | getattr(select, 'POLLRDHUP', 0x2000)  # of a pipe, and of a socket


def main(before, runner, patience, job):
    """Wait for the end of the standard input, a pipe from the runner; then write ``before``.

    The runner, a process id, has ``patience`` seconds from the end of its own input, ``job``.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(0, 0)
    poll.register(int(job), HUNG_UP)
    if 0 not in dict(poll.poll()):
        poll.unregister(int(job))
        if not poll.poll(float(patience) * 1000) and os.getppid() == int(runner):
            os.kill(int(runner), signal.SIGKILL)
    for path, value in json.loads(before).items():
        try:
            with open(path, 'w') as file:
                file.write(value)
        except OSError:
            continue  # the core has gone offline


if __name__ == '__main__':
    main(*sys.argv[1:])
