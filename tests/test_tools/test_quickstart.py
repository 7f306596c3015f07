"""The quickstart, on a set of a few pictures."""

import json

import cv2

from mmshuffle.weights import read_checkpoint
from tests.test_tools.conftest import assert_done, assert_user_error, run
from tests.tiny import write_coco


def test_leaves_checkpoint_figures_curves_and_pictures_and_resumes_to_the_same(tmp_path):
    small = ('--draw-train', '6', '--draw-val', '3', '--epochs', '2', '--batch-size', '2')
    work = tmp_path / 'work'
    command = ('tools/quickstart.py', '--draw-dir', tmp_path / 'drawn', '--work-dir', work, *small)
    printed, progress = assert_done(run(*command))
    result = json.loads((work / 'result.json').read_text())
    assert set(result['figures']) >= {'AP', 'AP50', 'AP75', 'APs', 'APm', 'APl'}
    assert len(result['ap_per_class']) == 5 and result['seed'] == 0
    assert [record['epoch'] for record in result['history']] == [1, 2]
    assert read_checkpoint(work / 'epoch_2.pth')['meta']['epoch'] == 2
    for picture in [work / 'curve.png', *(work / 'pictures').glob('*.jpg')]:
        assert cv2.imread(str(picture)).std() > 5
    assert len(list((work / 'pictures').glob('*.jpg'))) == 3
    assert 'AP50' in printed and 'epoch_2.pth' in printed
    assert 'epoch 2/2' in progress
    assert_done(run(*command, '--resume'))
    assert json.loads((work / 'result.json').read_text())['figures'] == result['figures']


def test_bad_input_is_one_line(tmp_path):
    data = write_coco(tmp_path / 'data')
    work = ('--work-dir', tmp_path / 'work')
    assert_user_error(run('tools/quickstart.py', '--data', tmp_path / 'no', *work), 'no')
    assert_user_error(run('tools/quickstart.py', '--data', data, *work), 'annotation')
    content = json.loads((data / 'annotations.json').read_text())
    (data / 'val.json').write_text(json.dumps(content))
    content['annotations'][0]['bbox'][2] = -5
    (data / 'train.json').write_text(json.dumps(content))
    given = ('--train-ann', data / 'train.json', '--val-ann', data / 'val.json')
    done = run('tools/quickstart.py', '--data', data, *given, *work, '--checkpoint', 'none')
    assert_user_error(done, 'negative bbox', 'id 1')
    assert not (tmp_path / 'work').exists()
