"""Published ratios of latencies, to set measured ones beside."""

from pathlib import Path

from mmshuffle.analysis.tables import load_table
from mmshuffle.engine import shipped

# Papers' tables by the heading of their column.
PAPER_TABLES = {
    '× in V1 paper (Snapdragon 820)': 'shufflenet_v1/table8',
    '× in V2 paper (Snapdragon 810)': 'shufflenet_v2/table8',
}
# Median, least and largest ratio to ShuffleNet V1 1x (g=3) in the single-threaded ARM runs, of 43
# devices, that ncnn publishes (github.com/Tencent/ncnn, benchmark/README.md), at about 224x224.
NCNN_REFERENCE = 'shufflenetv1-x1.0-g3'
NCNN_RATIOS: dict[str, tuple[float, ...]] = {
    'mobilenetv1-x1.0': (2.76, 1.86, 3.36),
    'alexnet': (5.06, 2.95, 21.7),
    'mobilenetv2-x1.0': (1.88,),
    'squeezenet1.1': (1.66,),
    'shufflenetv2-x1.0': (0.97, 0.77, 1.13),
    NCNN_REFERENCE: (1.0,),
}


def short_name(config: str) -> str:
    """Name of a config's network, without the recipe."""
    return shipped.RECIPE.sub('', config)


def paper_ratio(table: str, shape: tuple[int, int], config: str, reference: str) -> float | None:
    """Printed time of a network over that of another; None where either is not printed.

    Args:
        table: Name of the table.
        shape: Height and width of the image.
        config: Name of the network's config.
        reference: That of the other one.
    """
    printed = {
        shipped.network(Path(row.config)): row.latency_ms
        for row in load_table(table).rows
        if row.config and row.latency_ms is not None and row.shape == shape
    }
    mine, other = (printed.get(short_name(name)) for name in (config, reference))
    return None if mine is None or other is None else mine / other


def ncnn_ratio(shape: tuple[int, int], config: str, reference: str) -> tuple[float, ...] | None:
    """Ratio in ncnn's published runs: median, and least and largest where they are known."""
    if shape != (224, 224) or short_name(reference) != NCNN_REFERENCE:
        return None
    return NCNN_RATIOS.get(short_name(config))
