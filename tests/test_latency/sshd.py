"""A real ssh server on 127.0.0.1 with keys of its own."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest


class Server:
    """A running sshd.

    Args:
        folder: Where its keys and settings are made.
        command: What it runs instead of what a client asks for, if anything.
    """

    def __init__(self, folder: Path, command: str | None = None) -> None:
        sshd = shutil.which('sshd', path=f'{os.environ["PATH"]}:/usr/sbin:/sbin')
        if sshd is None or shutil.which('ssh-keygen') is None or shutil.which('ssh') is None:
            pytest.skip('needs sshd, ssh and ssh-keygen: apt-get install openssh-server')
        if os.geteuid() == 0:
            try:
                Path('/run/sshd').mkdir(exist_ok=True)  # sshd, as root, wants it to exist
            except OSError as error:
                pytest.skip(f'sshd needs /run/sshd: {error}')
        self.folder = folder
        self.port = _free_port()
        self.user = getpass.getuser()
        for name in ('host', 'user', 'stranger'):
            subprocess.run(
                ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', folder / name], check=True
            )
        shutil.copy(folder / 'user.pub', folder / 'authorized')
        host_key = (folder / 'host.pub').read_text().rsplit(' ', 1)[0]
        (folder / 'known').write_text(f'[127.0.0.1]:{self.port} {host_key}\n')
        settings = f"""
Port {self.port}
ListenAddress 127.0.0.1
HostKey {folder / 'host'}
AuthorizedKeysFile {folder / 'authorized'}
PidFile {folder / 'pid'}
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserEnvironment no
{(command and f'ForceCommand {command}') or ''}
"""
        (folder / 'sshd_config').write_text(settings)
        self.log = (folder / 'log').open('wb')
        self.process = subprocess.Popen(
            [sshd, '-D', '-e', '-f', folder / 'sshd_config'], stderr=self.log
        )
        self._wait(sshd)

    def _wait(self, sshd: str) -> None:
        for _ in range(1200):
            if self.process.poll() is not None:
                pytest.skip(f'{sshd} does not start: {(self.folder / "log").read_text()[-200:]}')
            with socket.socket() as client:
                if client.connect_ex(('127.0.0.1', self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.skip('sshd does not listen')

    @property
    def address(self) -> str:
        """For ``--target``."""
        return f'ssh:{self.user}@127.0.0.1:{self.port}'

    def config(self, key: str = 'user', known: str = 'known') -> str:
        """Path of ssh settings that use one of the keys."""
        path = self.folder / f'config-{key}-{known}'
        path.write_text(
            'Host *\n'
            f'  IdentityFile {self.folder / key}\n'
            '  IdentitiesOnly yes\n'
            f'  UserKnownHostsFile {self.folder / known}\n'
            '  GlobalKnownHostsFile /dev/null\n'
            '  StrictHostKeyChecking yes\n'
        )
        return str(path)

    def drop(self) -> None:
        """Cut all connections, as a device that loses its power."""
        for child in _descendants(self.process.pid):
            if 'sshd' in Path(f'/proc/{child}/comm').read_text():
                os.kill(child, signal.SIGKILL)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()


def _descendants(pid: int) -> list[int]:
    children = [
        int(word)
        for path in Path(f'/proc/{pid}/task').glob('*/children')
        for word in path.read_text().split()
    ]
    return [p for child in children for p in (*_descendants(child), child)]


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]
