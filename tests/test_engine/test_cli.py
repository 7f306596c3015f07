"""How a command line ends."""

import argparse
import os
import subprocess
import sys

import cv2
import pytest

from mmshuffle.engine import cli
from tests.conftest import REPO


def ended(main, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    return caught.value.code, capsys.readouterr().err


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


@pytest.mark.parametrize('below', ['file/run', 'x' * 300])
def test_a_place_that_cannot_be_used_is_one_line(tmp_path, capsys, below):
    (tmp_path / 'file').touch()

    def main():
        os.makedirs(tmp_path / below)

    code, err = ended(main, capsys)
    assert code == 2 and below[:4] in err and err.count('\n') == 1


def test_other_errors_keep_their_traceback():
    def main():
        try:
            raise KeyError
        except KeyError as error:
            raise ZeroDivisionError from error

    with pytest.raises(ZeroDivisionError):
        cli.run(main)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        *(('a=1.1', 1.1), ("a='1.1'", '1.1'), ('a="1.1"', '1.1'), ("a='True'", 'True')),
        *(("a='a,b'", 'a,b'), ("a=''", ''), ('a="[1,2]"', [1, 2]), ('a=x=y', 'x=y')),
        ('a=None', None),
    ],
)
def test_quoted_values_are_text(given, expected):
    parser = argparse.ArgumentParser()
    cli.add_config_options(parser)
    options = parser.parse_args(['--cfg-options', given, 'b.c=2']).cfg_options
    assert options == {'a': expected, 'b.c': 2}


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ('--part 0.5', '--part: 0.5: give a number of at least 1, at most 5'),
        ('--part nan', '--part: nan: give a number of at least 1, at most 5'),
        ('--part 6', '--part: 6: give'),
        ('--part x', "--part: invalid float value: 'x'"),
        ('--shape 32 31', '--shape: 31: give a number of at least 32'),
        ('--shape 32', '--shape: expected 2 arguments'),
        ('--kind b', "--kind: invalid choice: 'b'"),
        ('--other', 'unrecognized arguments: --other'),
    ],
)
def test_a_command_line_that_argparse_refuses_is_one_line(capsys, given, words):
    parser = cli.make_parser('', '')
    parser.add_argument('--part', type=cli.at_least(1, float, 5))
    parser.add_argument('--kind', choices=['a'])
    cli.add_shape(parser, '', least=32)
    code, err = ended(lambda: parser.parse_args(given.split()), capsys)
    assert (code, err.count('\n')) == (2, 1) and err.startswith('error: ') and words in err


WORKER = 'Caught {0} in DataLoader worker process 0.\nTraceback\n{0}: {1}'


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (AssertionError('failed to load image: a b.jpg'), 'image a b.jpg cannot be read'),
        (
            AssertionError(WORKER.format('AssertionError', 'failed to load image: a.jpg')),
            'image a.jpg cannot be read',
        ),
        (cv2.error('OpenCV: error: (-215) !buf.empty() in function imdecode_'), 'is empty'),
    ],
)
def test_images_that_do_not_decode_are_one_line(capsys, error, words):
    def main():
        raise error

    code, err = ended(main, capsys)
    assert code == 2 and words in err and err.count('\n') == 1


LONG_WORK = """
import logging, sys
from pathlib import Path
from mmshuffle.engine import cli

def main():
    log = logging.StreamHandler(sys.stdout)
    for number in range(20_000):
        print(number)
        print('progress', file=sys.stderr)
        log.emit(logging.makeLogRecord(dict(msg='loss')))
    Path(sys.argv[1]).write_text('whole')
    return 3

cli.run(main)
"""


@pytest.mark.parametrize(
    ('closed', 'command', 'code'),
    [
        ('both', ['-c', LONG_WORK, 'OUT'], 3),
        ('stdout', ['-c', LONG_WORK, 'OUT'], 3),
        *(
            (closed, command, 0)
            for closed in ('stdout', 'stderr', 'both')
            for command in (['tools/command/__init__.py'], ['tools/doctor.py', '--help'])
        ),
    ],
)
def test_work_goes_on_where_nobody_reads_the_output(tmp_path, command, code, closed):
    """As behind ``| head``: no traceback, and the files are whole."""
    out = tmp_path / 'out.txt'
    words = [str(out) if word == 'OUT' else word for word in command]
    reader, writer = os.pipe()
    os.close(reader)
    kept = {name: subprocess.PIPE for name in ('stdout', 'stderr') if closed not in (name, 'both')}
    streams = dict(dict(stdout=writer, stderr=writer), **kept)
    environment = {**os.environ, 'PYTHONPATH': str(REPO)}
    process = subprocess.Popen(
        [sys.executable, *words], cwd=REPO, env=environment, text=True, **streams
    )
    os.close(writer)
    said = [text for text in process.communicate() if text]
    assert process.returncode == code, said
    assert not any('BrokenPipe' in text for text in said)
    assert 'OUT' not in command or out.read_text() == 'whole'
