"""Time of each layer, from the runtimes that measure it themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .runtimes import Loaded, Problem

LOOPS = 20


def profile(network: Loaded) -> list[dict[str, Any]]:
    """Run a network with its runtime's profiler.

    Returns:
        ``name``, ``type``, mean ``ms`` and ``inputs``, the shapes of all inputs, weights among
        them, of each layer, in the order of the first run.

    Raises:
        Problem: The runtime has no profiler.
    """
    if network.end_profile is None:
        raise Problem('--profile: only onnxruntime tells the time of each layer')
    for _ in range(LOOPS):
        network.call()
    path = Path(network.end_profile())
    layers: dict[str, dict[str, Any]] = {}
    for event in json.loads(path.read_text(encoding='utf-8')):
        if event.get('cat') != 'Node' or not event['name'].endswith('_kernel_time'):
            continue
        name = event['name'][: -len('_kernel_time')]
        known = event['args']
        # Each shape is that of the only key, the type of the numbers.
        shapes = [next(iter(shape.values())) for shape in known.get('input_type_shape', [])]
        layer = layers.setdefault(
            name, dict(name=name, type=known['op_name'], inputs=shapes, ms=[])
        )
        layer['ms'].append(event['dur'] / 1e3)
    path.unlink()
    # The first runs, of loading and the gate, are warm-up.
    return [
        dict(layer, ms=sum(layer['ms'][-LOOPS:]) / len(layer['ms'][-LOOPS:]))
        for layer in layers.values()
    ]
