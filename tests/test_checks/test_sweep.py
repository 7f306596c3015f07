"""No config that MMDetection ships is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmdet
import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

from mmshuffle.checks import LOADERS, check_model
from mmshuffle.checks.config import check_class_counts
from mmshuffle.checks.dataset_config import unwrapped
from mmshuffle.checks.loaders import check_loader

ROOT = Path(mmdet.__file__).parent / '.mim' / 'configs'
# Cannot be read or built without these, which the project does not install.
ABSENT = ('mmpretrain', 'transformers')
# True alarms: MMDetection has no such metric, its CocoMetric no such argument, and mmengine needs a
# sampler.
FAULTY = (
    "'MOTChallengeMetrics' is no known metric",
    "unexpected keyword argument 'eval_mode'",
    'None is no known sampler',
)


def walk(paths: Sequence[Path]) -> tuple[int, dict[str, str], list[str]]:
    """Check the models of configs.

    Returns:
        How many were checked, why others could not be read, and the false alarms: errors in models
        that MMDetection builds.
    """
    checked, unread, alarms = 0, {}, []
    for path in paths:
        name = str(path.relative_to(ROOT))
        try:
            cfg = Config.fromfile(path)
        except Exception as error:
            unread[name] = f'{type(error).__name__}: {error}'
            continue
        if cfg.get('model') is None:
            continue
        checked += 1
        problems = check_model(cfg.model)
        for loader in LOADERS:
            problems += check_loader(cfg, loader)
            for _, dataset in unwrapped(cfg, loader):
                problems += check_class_counts(cfg.model, dataset)
        errors = [str(p) for p in problems if p.fatal and not any(e in str(p) for e in FAULTY)]
        if errors and builds(cfg.model):
            alarms.append(f'{name}: {errors}')
    return checked, unread, alarms


def builds(model: Any) -> bool:
    try:
        MODELS.build(model)
    except Exception:
        return False
    return True


ALL = sorted(path for path in ROOT.rglob('*.py') if '_base_' not in path.parts)
ONE_A_FOLDER = {path.relative_to(ROOT).parts[0]: path for path in reversed(ALL)}.values()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    ('paths', 'least'),
    [
        pytest.param(ONE_A_FOLDER, 75, id='one-a-folder'),
        pytest.param(ALL, 770, id='all', marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures('observed_once')
def test_no_config_of_mmdetection_is_refused(paths, least):
    checked, unread, alarms = walk(paths)
    assert alarms == []
    assert checked >= least
    # Some name a base that MMDetection does not ship.
    excused = (*ABSENT, 'FileNotFoundError')
    assert all(any(word in reason for word in excused) for reason in unread.values()), unread
