"""Measuring by ssh, on a real server on 127.0.0.1, and the faults of a connection."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmshuffle.latency.measure import INTERRUPTED, Recording, measure
from mmshuffle.latency.targets import SSHTarget, make_target

from .sshd import Server
from .tiny import LONG, QUICK, ask, assert_blocks, assert_clean, stop_after

pytest.importorskip('ncnn', reason='needs ncnn')


@pytest.fixture(scope='module')
def start_server(tmp_path_factory):
    """Start a server, that may run another command than it is asked for."""
    with contextlib.ExitStack() as servers:
        yield lambda command=None: servers.enter_context(
            contextlib.closing(Server(tmp_path_factory.mktemp('sshd'), command))
        )


@pytest.fixture(scope='module')
def server(start_server):
    return start_server()


def reach(server: Server, folder: Path, python: str = sys.executable, **kwargs) -> SSHTarget:
    config = server.config(**kwargs)
    return make_target(server.address, python=python, folder=str(folder), ssh_config=config)


def assert_one_line(recording: Recording, *parts: str) -> None:
    assert '\n' not in recording.problem
    assert all(part in recording.problem for part in parts), recording.problem


def test_networks_are_measured_behind_a_greeting_of_the_login_shell(
    start_server, plan, device_folder
):
    server = start_server('echo "Welcome {"; exec sh -c "$SSH_ORIGINAL_COMMAND"')
    recording = measure(plan, reach(server, device_folder), ask(protocol=QUICK))
    assert recording.problem is None
    for case in recording.cases:
        assert_blocks(case)


def test_words_reach_the_device_unchanged(server, tmp_path):
    """No shell there interprets what is on the command line here."""
    words = ['a b', '$(touch x)', '`touch x`', "it's", '"', '\\', ';', '*', '', '~', '--', '\n!']
    show = 'import json, sys; print(json.dumps(sys.argv[1:]))'
    target = reach(server, tmp_path)
    command = target.command([sys.executable, '-c', show, *words])
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == words


@pytest.mark.parametrize(
    ('changes', 'parts'),
    [
        (dict(key='stranger'), ('Permission denied (publickey)', 'ssh-copy-id')),
        (dict(known='nothing'), ('Host key verification failed', 'log in once')),
        (dict(python='python9'), ('no python9 there', '--python')),
    ],
    ids=str,
)
def test_what_is_missing_there_is_said(server, plan, device_folder, changes, parts):
    (server.folder / 'nothing').write_text('')
    assert_one_line(measure(plan, reach(server, device_folder, **changes), ask()), *parts)


@pytest.mark.parametrize('back', [True, False])
def test_connection_that_drops_while_it_measures(start_server, plan, device_folder, tmp_path, back):
    """Where no other one can be made to remove the files, the device cleans itself."""
    server = start_server(f'test ! -e {tmp_path / "off"} && exec sh -c "$SSH_ORIGINAL_COMMAND"')
    seen = []

    def progress(done: float) -> None:
        seen.append(done)
        if len(seen) == 3:
            if not back:
                (tmp_path / 'off').touch()
            server.drop()

    recording = measure(plan, reach(server, device_folder), ask(protocol=LONG), progress)
    assert_one_line(recording, f'{server.address}: ', 'the connection was lost')
    assert len(recording.cases[0].sessions[0][0]) >= 2
    assert_clean(device_folder, seconds=15)


def test_ctrl_c(server, plan, device_folder):
    target = reach(server, device_folder)
    recording = measure(plan, target, ask(protocol=LONG), stop_after(3))
    assert recording.problem == INTERRUPTED
    assert len(recording.cases[0].sessions[0][0]) >= 2


def test_full_disk(start_server, plan, device_folder):
    """A limit on the size of files, in blocks, stands for a disk that fills up under way."""
    server = start_server('ulimit -f 64; exec sh -c "$SSH_ORIGINAL_COMMAND"')
    big = plan.folder / 'big.bin'
    big.write_bytes(bytes(10_000_000))
    plan.files['big.bin'] = big
    recording = measure(plan, reach(server, device_folder), ask(protocol=QUICK))
    assert_one_line(recording, f'{server.address}: unpack there failed: ', 'File too large')
