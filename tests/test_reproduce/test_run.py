"""Steps are run once, by whoever has claimed them, and what fails does not stop the others."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmshuffle.reproduce import run as module
from mmshuffle.reproduce.plan import Step, missing
from mmshuffle.reproduce.run import claimed, run
from tests.conftest import REPO

# Notes that it ran, and leaves its product.
WORK = (
    'import json, sys, time; time.sleep(0.2); open(sys.argv[1], "a").write("x");'
    'open(sys.argv[2], "w").write(json.dumps(dict(checkpoint="epoch_1.pth")))'
)


def make_step(folder: Path, name: str, product: str, code: str = WORK) -> Step:
    path = folder / name / product
    words = ['python', '-c', code, str(folder / f'{name}.{product}.note'), str(path)]
    fits = (lambda c: c['checkpoint'] == 'epoch_1.pth') if product[-4:] == 'json' else None
    return Step(f'{name}/{product}', name, words, path, fits)


def make_row(folder: Path, name: str, code: str = WORK) -> list[Step]:
    return [
        make_step(folder, 'backbone', 'epoch_1.pth'),
        make_step(folder, name, 'epoch_1.pth', code),
        make_step(folder, name, 'metrics.json', code),
    ]


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(module, 'PAUSE', 0.05)


def test_each_step_runs_once_however_many_processes_there_are(tmp_path):
    rows = [make_row(tmp_path, f'det_{i}') for i in range(3)]
    failed: list[str] = []
    threads = [
        threading.Thread(target=lambda: failed.extend(run(rows, tmp_path))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and not any(map(missing, rows))
    notes = list(tmp_path.glob('*.note'))
    assert len(notes) == 1 + 3 * 2 and {note.read_text() for note in notes} == {'x'}


def test_what_is_done_is_not_run_again_and_what_only_that_needs_neither(tmp_path):
    _, training, test = row = make_row(tmp_path, 'det')
    assert missing(row) == row
    training.product.parent.mkdir()
    training.product.touch()
    assert missing(row) == [test]
    test.product.write_text(json.dumps(dict(checkpoint='epoch_1.pth')))
    training.product.unlink()
    assert missing(row) == []
    training.product.touch()
    # A test of another checkpoint of the run, or a file that was cut off, is not its product.
    for text in (json.dumps(dict(checkpoint='epoch_0.pth')), '{"checkp', '[]', '{}'):
        test.product.write_text(text)
        assert missing(row) == [test]


@pytest.mark.parametrize(
    ('code', 'words'), [('import sys; sys.exit(3)', 'exit code 3'), ('pass', 'left no right')]
)
def test_a_failure_stops_only_what_depends_on_it(tmp_path, capfd, code, words):
    rows = [make_row(tmp_path, 'broken', code), make_row(tmp_path, 'other')]
    assert run(rows, tmp_path) == ['broken/epoch_1.pth']
    assert missing(rows[1]) == [] and missing(rows[0]) == rows[0][1:]
    assert words in capfd.readouterr().err


def test_a_claim_ends_with_the_last_process_that_has_it(tmp_path):
    """One that was killed has it no longer; a training that outlives it still has."""
    path = tmp_path / '.claims' / 'step'
    code = (
        'import subprocess, sys; from pathlib import Path\n'
        'from mmshuffle.reproduce.run import claimed\n'
        'with claimed(Path(sys.argv[1])) as claim:\n'
        '    child = [sys.executable, "-c", "print(7, flush=True); input()"]\n'
        '    subprocess.run(child, pass_fds=[claim])'
    )
    words = [sys.executable, '-W', 'ignore', '-c', code, str(path)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPO)
    owner = subprocess.Popen(words, **pipes)
    assert int(owner.stdout.readline()) == 7  # by its child
    owner.kill()
    owner.wait()
    with claimed(path) as claim:
        assert claim is None
    owner.stdin.close()
    with path.open('a') as file:
        module.fcntl.flock(file, module.fcntl.LOCK_EX)  # waits for the end of its child
    with claimed(path) as claim, claimed(path) as other:
        assert claim is not None and other is None


def test_a_disk_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def flock(*args):
        raise OSError(37, 'No locks available')

    monkeypatch.setattr(module.fcntl, 'flock', flock)
    with claimed(tmp_path / 'step') as claim:
        assert claim is not None
    assert 'its disk has no locks (No locks available)' in capsys.readouterr().err
