"""Several seeds of several configs: trained once, averaged, compared."""

import json
import shutil
from collections.abc import Callable

import pytest

from mmshuffle.weights import read_checkpoint
from tests.test_analysis.test_comparison import write_metrics
from tests.test_tools.conftest import Done, assert_done, assert_refused
from tests.tiny import write_classifier, write_coco, write_config, write_folders, write_over


@pytest.fixture
def seeds(call, started) -> Callable[..., tuple[Done, list[tuple[str, ...]]]]:
    """Run the tool; returns how it ended, and the tools that it has started."""

    def run(*args: object) -> tuple[Done, list[tuple[str, ...]]]:
        started.clear()
        return call('train_seeds', *args), started

    return run


def test_classifiers_are_trained_once_and_averaged(seeds, tmp_path):
    data = write_folders(tmp_path / 'data', images=2, size=32)
    config = write_classifier(tmp_path, data, epochs=1)
    arguments = (config, '--seeds', '3', '4', '--work-dir', tmp_path / 'w')
    done, missing = (tmp_path / 'w' / 'tiny' / f'seed_{seed}' for seed in (3, 4))
    write_metrics(done, '', {'accuracy/top1': 12.0})
    ended, started = seeds(*arguments)
    printed, _ = assert_done(ended)
    figure = json.loads((missing / 'metrics.json').read_text())['metrics']['accuracy/top1']
    content = json.loads((tmp_path / 'w' / 'seeds.json').read_text())
    assert content['values'] == {str(config): {'accuracy/top1': [12.0, figure]}}
    assert f'| tiny.py | accuracy/top1 | {(12 + figure) / 2:.1f} |' in printed
    assert [tool for tool, *_ in started] == ['train', 'test']
    assert read_checkpoint(missing / 'epoch_1.pth')['meta']['seed'] == 4
    # Nothing is trained again for the sake of a name.
    ended, started = seeds(*arguments, '--metrics', 'accuracy/top9')
    assert ended.code == 2 and 'has no accuracy/top9: give --metrics of' in ended.err
    assert started == []


def test_detectors_are_compared_on_the_same_images(seeds, tmp_path):
    first = write_config(tmp_path, write_coco(tmp_path / 'data'), epochs=1)
    second = tmp_path / 'second.py'
    shutil.copy(write_over(first, 'optim_wrapper = dict(optimizer=dict(lr=1e-5))'), second)
    arguments = (first, second, '--seeds', '5', '--work-dir', tmp_path / 'w')
    arguments += ('--cfg-options', 'train_dataloader.batch_size=2')
    ended, started = seeds(*arguments)
    printed, _ = assert_done(ended)
    assert [tool for tool, *_ in started] == ['train', 'test'] * 2
    assert all('train_dataloader.batch_size=2' in command for command in started)
    content = json.loads((tmp_path / 'w' / 'seeds.json').read_text())
    for metric in ('coco/bbox_mAP', 'coco/bbox_mAP_50'):
        (one,), (other,) = (content['values'][str(path)][metric] for path in (first, second))
        mean, low, high = content['differences'][str(second)][metric]
        # COCO's own figures are rounded to three digits where MMDetection hands them on.
        assert mean == pytest.approx(other - one, abs=1.1e-3) and low <= high
        assert f'| second.py | {metric} | {100 * other:.1f} | - |' in printed
        assert f'| {100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] |' in printed
    # What was trained with other options is not taken for this.
    ended, started = seeds(*arguments, 'optim_wrapper.optimizer.lr=99')
    assert_refused(ended, 'is of another config, or of other options', 'trained.json')
    assert started == []
    # Without a difference the figures are there, and boxes that are lost are made anew.
    boxes = tmp_path / 'w' / 'second' / 'seed_5' / 'boxes.bbox.json'
    boxes.write_text('[]')
    (code, output, err), _ = seeds(*arguments)
    assert code == 2 and 'has no boxes on images of the test set' in err.splitlines()[-1]
    assert '| second.py | coco/bbox_mAP |' in output
    assert json.loads((tmp_path / 'w' / 'seeds.json').read_text()) == {**content, 'differences': {}}
    boxes.unlink()
    assert_done(seeds(*arguments)[0])
    assert json.loads((tmp_path / 'w' / 'seeds.json').read_text()) == content


def test_what_cannot_be_compared_is_refused(call, tmp_path):
    config = write_classifier(tmp_path, write_folders(tmp_path / 'data', images=2, size=32))
    (tmp_path / 'other').mkdir()
    namesake = shutil.copy(config, tmp_path / 'other')
    assert_refused(call('train_seeds', config, namesake), 'would share a folder')
    (tmp_path / 'detector').mkdir()
    detector = write_config(tmp_path / 'detector', tmp_path / 'data')
    detector = detector.rename(detector.with_name('detector.py'))
    assert_refused(call('train_seeds', config, detector), 'no figure in common')
    untested = write_over(
        detector, 'test_evaluator = None\ntest_dataloader = None\ntest_cfg = None'
    )
    assert_refused(call('train_seeds', untested), 'no test_evaluator with an ann_file')
