"""Imports within mmshuffle point one way, also those inside functions."""

import ast
import graphlib
from collections.abc import Iterator

import pytest

from tests.conftest import REPO

# A package may import those of the later lines, and none of its own line.
LAYERS = (
    {'latency', 'compression', 'reproduce'},
    {'deploy', 'analysis'},
    {'engine'},
    {'checks'},
    {'detection', 'classification'},
    {'backbones', 'weights', 'data'},
    {'pretrained', 'reporting'},
    {'errors'},
)
MODULES = {
    '.'.join(path.relative_to(REPO).with_suffix('').parts).removesuffix('.__init__'): path
    for path in sorted((REPO / 'mmshuffle').rglob('*.py'))
    if '.mim' not in path.parts
}


def imports_of(module: str) -> Iterator[str]:
    """The modules of mmshuffle that a module imports, wherever in it."""
    path = MODULES[module]
    package = module if path.name == '__init__.py' else module.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split('.')[: 1 - node.level or None] if node.level else []
            source = '.'.join([*parts, *filter(None, [node.module])])
            for alias in node.names:
                whole = f'{source}.{alias.name}'
                if whole in MODULES or source in MODULES:
                    yield whole if whole in MODULES else source


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: set(imports_of(module)) - {module} for module in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize('module', [m for m in MODULES if m != 'mmshuffle'])
def test_packages_import_those_of_lower_layers_alone(module):
    rank = {package: i for i, layer in enumerate(LAYERS) for package in layer}
    package = module.split('.')[1]
    found = {name.split('.')[1] for name in imports_of(module) if name != 'mmshuffle'} - {package}
    assert {name for name in found if rank[name] <= rank[package]} == set()


@pytest.mark.parametrize('package', ['backbones', 'weights'])
def test_backbones_and_weights_share_one_small_module_at_most(package):
    modules = [module for module in MODULES if module.startswith(f'mmshuffle.{package}')]
    found = {name.split('.')[1] for module in modules for name in imports_of(module)}
    assert found - {package} <= {'pretrained', 'errors'}
