"""The command ``mmshuffle NAME ...``: runs ``tools/NAME.py``, wherever mmshuffle is installed.

Installed as ``mmshuffle_command``, beside the package and not in it: importing the package takes
seconds and needs PyTorch, which ``mmshuffle doctor`` may be called to find missing.
"""

import ast
import os
import sys
from importlib.util import find_spec
from pathlib import Path

# For the checkout itself.
NO_COMMANDS = ('bootstrap', 'write_metafiles')


def find_tools() -> dict[str, Path]:
    """Return the tools by the name of their command, such as ``check-config``."""
    package = find_spec('mmshuffle')
    for folder in package.submodule_search_locations or () if package else ():
        # A checkout that was not installed has them beside the package.
        for tools in (Path(folder, '.mim', 'tools'), Path(folder).parent / 'tools'):
            paths = [path for path in sorted(tools.glob('*.py')) if path.stem not in NO_COMMANDS]
            if paths:
                return {path.stem.replace('_', '-'): path.resolve() for path in paths}
    sys.exit(_fail('its tools are not installed: run pip install --force-reinstall mmshuffle'))


def _fail(message: str) -> int:
    print(f'mmshuffle: {message}', file=sys.stderr)
    return 2


def summary(tool: Path) -> str:
    """Return what a tool is for: the first line of its docstring."""
    text = ast.get_docstring(ast.parse(tool.read_text(encoding='utf-8'))) or ''
    return text.partition('\n')[0]


def main() -> int:
    """Run the tool that the command line names; return the exit code."""
    name, *arguments = sys.argv[1:] or ['--help']
    tools = find_tools()
    if name in ('-h', '--help'):
        lines = [f'  {command:<16} {summary(tool)}' for command, tool in tools.items()]
        try:
            head = 'usage: mmshuffle COMMAND ...\n\ncommands (each has --help):'
            print(head, *lines, sep='\n', flush=True)
        except BrokenPipeError:  # behind head, say; tools see to it themselves
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    name = name.replace('_', '-')  # as in the name of the file
    if name not in tools:
        return _fail(f'no command {name!r}: give one of {", ".join(tools)}')
    sys.argv = [f'mmshuffle {name}', *arguments]
    # In the place of this script, which processes that the tool starts look for.
    script = vars(sys.modules['__main__'])
    script['__file__'] = str(tools[name])
    exec(compile(tools[name].read_bytes(), tools[name], 'exec'), script)
    return 0


if __name__ == '__main__':
    sys.exit(main())
