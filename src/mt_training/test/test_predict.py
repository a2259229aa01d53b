"""Pictures of what a model says, whose answers are known; of images, folders and videos."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from mt_training.predict import main, open_source
from tiny_model import KEYPOINTS, write_tiny_model

SIZE = (64, 32)


@pytest.fixture
def model(tmp_path):
    """Write the model: class = red, depth = blue / 10."""
    return write_tiny_model(tmp_path / 'm.onnx', ('sky', 'road'))


@pytest.fixture
def images(tmp_path):
    """Write two images: the right half is road, 10 m away; the left sky, 2 m."""
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    image[..., 0] = 20
    image[:, 32:] = (100, 0, 1)
    for name in ('b', 'a'):
        path = tmp_path / f'images/{name}.png'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image)
    return tmp_path / 'images'


def predict(*words):
    """Run the command; return its exit status."""
    return main([str(word) for word in words])


def test_a_folder_becomes_pictures_and_arrays(model, images, tmp_path, capsys):
    output = tmp_path / 'out'
    words = (
        images,
        '--model',
        model,
        '--output',
        output,
        '--raw',
        '--input-size',
        '64x32',
        '--keypoints',
        '10',
    )
    assert predict(*words) == 0
    names = {f'{n}_{task}.png' for n in 'ab' for task in ('segmentation', 'depth', 'keypoints')}
    assert {p.name for p in output.iterdir()} == names | {'a.npz', 'b.npz'}
    with np.load(output / 'a.npz') as arrays:
        assert (arrays['segmentation'][:, 32:] == 1).all() and (arrays['segmentation'][:, :32] == 0).all()
        np.testing.assert_allclose(arrays['depth'][5, [3, 60]], [2, 10])
        assert arrays['keypoints'].shape == (10, 2) and arrays['descriptors'].shape == (10, KEYPOINTS)
    painted = cv2.imread(str(output / 'a_segmentation.png'))
    assert painted.shape[0] > SIZE[1], 'the classes stand below'
    np.testing.assert_allclose(painted[10, 50].astype(int), [155, 11, 6], atol=2)  # 55 % of [10, 20, 200]
    colors = cv2.imread(str(output / 'a_depth.png')).astype(int)
    assert colors[10, 5, 2] > colors[10, 5, 0] and colors[10, 60, 0] > colors[10, 60, 2]
    assert '2 of 2 images run now' in capsys.readouterr().out
    (output / 'b_depth.png').unlink()
    assert predict(*words) == 0 and '1 of 2 images run now' in capsys.readouterr().out


def test_one_image_and_chosen_tasks(model, images, tmp_path):
    output = tmp_path / 'out'
    assert predict(images / 'a.png', '--model', model, '--tasks', 'depth', '--output', output) == 0
    assert [p.name for p in output.iterdir()] == ['a_depth.png']
    assert len(open_source(images, '1:')) == 1 and open_source(images, '1:').name_of(0) == 'b'


def test_a_video_becomes_a_video(model, tmp_path):
    path = tmp_path / 'drive.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 64))
    for level in (40, 120, 200):
        writer.write(np.full((64, 64, 3), level, np.uint8))
    writer.release()
    output = tmp_path / 'out'
    assert predict(path, '--model', model, '--tasks', 'depth', 'keypoints', '--output', output) == 0
    assert [p.name for p in output.iterdir()] == ['drive.mp4']
    shown = cv2.VideoCapture(str(output / 'drive.mp4'))
    assert shown.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and shown.get(cv2.CAP_PROP_FRAME_WIDTH) == 128
    assert shown.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_tools_for_targets_need_no_torch():
    """They start where the training environment is not installed."""
    code = (
        'import sys\n'
        'sys.modules.update(dict.fromkeys(("torch", "onnx", "kornia", "lightning")))\n'
        'from mt_training import build_engine, curves, package, predict\n'
        'from mt_training.evaluation import cli\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('nowhere',), 'nowhere'),
        (('{images}', '--model', 'nowhere.onnx'), 'nowhere.onnx'),
        (('{images}', '--model', '{model}', '--tasks', 'depth'), 'no task depth'),
        (('{images}/bad.png', '--model', '{model}'), 'bad.png'),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, model, images, tmp_path, capsys):
    (images / 'bad.png').write_bytes(b'nothing')
    write_tiny_model(model, ('sky', 'road'), tasks=['segmentation'])
    words = [word.format(images=images, model=model) for word in words]
    assert predict(*words, '--output', tmp_path / 'out') == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith('predict: ') and sentence in message
    assert not list(tmp_path.glob('out/*'))
