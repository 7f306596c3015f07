"""A real ssh server on 127.0.0.1 with keys of its own."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

SETTINGS = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserEnvironment no
"""


class Server:
    """A running sshd.

    Args:
        folder: Where its keys and settings are made.
        command: What it runs instead of what a client asks for, if anything.
    """

    def __init__(self, folder: Path, command: str | None = None) -> None:
        sshd = shutil.which('sshd', path=f'{os.environ["PATH"]}:/usr/sbin:/sbin')
        if None in (sshd, shutil.which('ssh-keygen'), shutil.which('ssh')):
            pytest.skip('needs sshd, ssh and ssh-keygen: apt-get install openssh-server')
        with contextlib.suppress(OSError):
            Path('/run/sshd').mkdir()  # sshd, as root, wants it to exist
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self.folder, self.address = folder, f'ssh:{getpass.getuser()}@127.0.0.1:{port}'
        for name in ('host', 'user', 'stranger'):
            make = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', folder / name]
            subprocess.run(make, check=True)
        (folder / 'known').write_text(f'[127.0.0.1]:{port} {(folder / "host.pub").read_text()}')
        forced = f'ForceCommand {command}\n' if command else ''
        (folder / 'sshd_config').write_text(SETTINGS.format(port=port, folder=folder) + forced)
        run = [sshd, '-D', '-e', '-f', folder / 'sshd_config']
        with (folder / 'log').open('wb') as log:
            self.process = subprocess.Popen(run, stderr=log)
        for _ in range(1200):
            if self.process.poll() is not None:
                pytest.skip(f'{sshd} does not start: {(folder / "log").read_text()[-200:]}')
            with socket.socket() as client:
                if client.connect_ex(('127.0.0.1', port)) == 0:
                    return
            time.sleep(0.05)
        pytest.skip('sshd does not listen')

    def config(self, key: str = 'user', known: str = 'known') -> str:
        """Path of ssh settings that use one of the keys."""
        path = self.folder / f'config-{key}-{known}'
        path.write_text(
            f'Host *\nIdentityFile {self.folder / key}\nIdentitiesOnly yes\n'
            f'UserKnownHostsFile {self.folder / known}\nGlobalKnownHostsFile /dev/null\n'
            'StrictHostKeyChecking yes\n'
        )
        return str(path)

    def drop(self) -> None:
        """Cut all connections, as a device that loses its power."""
        children = Path(f'/proc/{self.process.pid}/task/{self.process.pid}/children')
        for child in children.read_text().split():
            os.killpg(int(child), signal.SIGKILL)  # what it has started has a session of its own

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
