"""Teachers of every format label images; labels keep their confidence, runs go on, mistakes are said."""

import json

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='needs the training environment: ./mt build --training')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from mt_perception.errors import MtError  # noqa: E402
from mt_training.data.readers.image_list import open_images  # noqa: E402
from mt_training.data.readers.images import read_class_ids  # noqa: E402
from mt_training.data.readers.pseudo_labels import WithPseudoLabels, read_manifest  # noqa: E402
from mt_training.pseudo_label import encode_depth, main  # noqa: E402
from mt_training.teachers import views  # noqa: E402
from mt_training.teachers.base import Prediction  # noqa: E402
from tiny_model import write_tiny_model  # noqa: E402

SIZE = (64, 32)  # width, height
PLAIN = ('--mean', '0', '0', '0', '--std', '1', '1', '1', '--scale', '1')


@pytest.fixture
def images(tmp_path):
    """Write two images: red 1 on the left and 0 on the right; blue 50."""
    for name in ('day/a', 'b'):
        path = tmp_path / f'images/{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        image[:, : SIZE[0] // 2, 2], image[..., 0] = 1, 50
        cv2.imwrite(str(path), image)
    return tmp_path / 'images'


def save_onnx(path, nodes, outputs, constants=(), channels_last=False):
    """Write a plain ONNX model with input ``x`` of any size."""
    shape = [1, 'H', 'W', 3] if channels_last else [1, 3, 'H', 'W']
    graph = helper.make_graph(
        nodes,
        'plain',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def write_scores(path):
    """Write a model with two classes: scores 0 and 4 · red − 2 in plane 1."""
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[1, 0] = 4
    bias = np.array([0, -2], np.float32)
    node = helper.make_node('Conv', ['x', 'weight', 'bias'], ['scores'])
    return save_onnx(
        path, [node], [('scores', TensorProto.FLOAT, [1, 2, 'H', 'W'])], [('weight', weight), ('bias', bias)]
    )


def run(teacher, images, output, *more):
    """Run the command on a folder of images."""
    return main(['--teacher', str(teacher), '--root', str(images), '--output', str(output), *more])


def names_file(tmp_path, *names):
    """Write a YAML list of class names."""
    path = tmp_path / 'names.yaml'
    path.write_text(json.dumps(list(names)))
    return str(path)


def test_scores_become_classes_and_their_probability(images, tmp_path):
    """Softmax of (0, 2) and (0, −2): the right class with 0.88; the reader leaves out what is weaker."""
    teacher = write_scores(tmp_path / 'big.onnx')
    classes = ('--task', 'segmentation', '--classes', names_file(tmp_path, 'floor', 'wall'))
    assert run(teacher, images, tmp_path / 'out', *classes, *PLAIN, '--views', '4') == 0
    manifest = read_manifest(tmp_path / 'out')
    assert manifest['class_names'] == ['floor', 'wall'] and manifest['tasks'] == ['segmentation']
    ids = read_class_ids(tmp_path / 'out/segmentation/day/a.png')
    assert ids.shape == (32, 64) and (ids[:, :30] == 1).all() and (ids[:, 34:] == 0).all()
    confidence = read_class_ids(tmp_path / 'out/segmentation_confidence/day/a.png')
    assert confidence[10, 10] == round(255 / (1 + np.exp(-2)))
    frames = open_images(images)
    sample = WithPseudoLabels(frames, tmp_path / 'out', 0.8)[1]
    assert sample.name == 'day/a' and sample.labels[0, 0] == 1
    assert (WithPseudoLabels(frames, tmp_path / 'out', 0.95)[0].labels == 255).all()


def test_class_ids_and_named_outputs(images, tmp_path):
    """A model of class ids, [1,H,W,3] → [1,H,W]; the output is asked for by name."""
    nodes = [
        helper.make_node('ReduceMax', ['x'], ['red'], axes=[3], keepdims=0),
        helper.make_node('Cast', ['red'], ['ids'], to=TensorProto.INT64),
    ]
    outputs = [('red', TensorProto.FLOAT, [1, 'H', 'W']), ('ids', TensorProto.INT64, [1, 'H', 'W'])]
    teacher = save_onnx(tmp_path / 'ids.onnx', nodes, outputs, channels_last=True)
    # blue is 50 everywhere, so that the largest channel is class 50
    names = names_file(tmp_path, *(f'c{i}' for i in range(60)))
    arguments = ('--task', 'segmentation', '--classes', names, *PLAIN)
    assert run(teacher, images, tmp_path / 'out', *arguments, '--output-name', 'ids') == 0
    assert (read_class_ids(tmp_path / 'out/segmentation/b.png') == 50).all()
    assert (read_class_ids(tmp_path / 'out/segmentation_confidence/b.png') == 255).all()
    assert run(teacher, images, tmp_path / 'other', *arguments, '--output-name', 'logits') == 1


@pytest.mark.parametrize('kind, expected', [('metric', 50.0), ('relative', 10.0), ('inverse_relative', 10.0)])
def test_depth(images, tmp_path, kind, expected):
    """Metric depth in 1/256 m; depth without scale has its median at 10 and is left out unless wanted."""
    node = helper.make_node('ReduceMax', ['x'], ['depth'], axes=[1], keepdims=0)
    teacher = save_onnx(tmp_path / 'depth.onnx', [node], [('depth', TensorProto.FLOAT, [1, 'H', 'W'])])
    arguments = ('--task', 'depth', '--depth-kind', kind, *PLAIN, '--views', '2')
    assert run(teacher, images, tmp_path / 'out', *arguments) == 0
    frames = open_images(images)
    if kind != 'metric':
        with pytest.raises(MtError, match='relative_depth'):
            WithPseudoLabels(frames, tmp_path / 'out')
    sample = WithPseudoLabels(frames, tmp_path / 'out', relative_depth=True)[0]
    np.testing.assert_allclose(sample.depth, expected, atol=1 / 512)


def test_a_teacher_under_the_contract_says_itself_what_it_does(images, tmp_path):
    """Both tasks come from the model: class = red, depth = blue / 10; a run goes on where it stopped."""
    teacher = write_tiny_model(tmp_path / 'tiny.onnx')
    assert run(teacher, images, tmp_path / 'out', '--views', '1', '--frames', ':1') == 0
    first = tmp_path / 'out/segmentation/b.png'
    stamp = first.stat().st_mtime_ns
    assert not (tmp_path / 'out/depth/day/a.png').exists()
    assert run(teacher, images, tmp_path / 'out', '--views', '1') == 0
    assert first.stat().st_mtime_ns == stamp and not list((tmp_path / 'out').rglob('*.part'))
    data = WithPseudoLabels(open_images(images), tmp_path / 'out')
    assert data.class_names == ('sky', 'building') and data.provides == ('segmentation', 'depth')
    assert data[1].labels[0, [0, 63]].tolist() == [1, 0]
    np.testing.assert_allclose(data[1].depth, 5.0, atol=1 / 512)


def test_labels_of_another_teacher_are_not_mixed(images, tmp_path, capsys):
    assert run(write_tiny_model(tmp_path / 'tiny.onnx'), images, tmp_path / 'out', '--views', '1') == 0
    other = write_tiny_model(tmp_path / 'other.onnx', class_names=('sky', 'house'))
    assert run(other, images, tmp_path / 'out', '--views', '1') == 1
    assert 'differs in teacher, class_names; name another --output' in capsys.readouterr().err
    (tmp_path / 'out/depth_confidence/b.png').unlink()
    (tmp_path / 'out/depth/b.png').unlink()
    with pytest.raises(MtError, match="no segmentation and depth for 'b'.*run pseudo_label to the end"):
        WithPseudoLabels(open_images(images), tmp_path / 'out')


def test_torchscript(images, tmp_path, capsys):
    """A traced module with a dict of outputs, named; a state dict is not a TorchScript file."""
    torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')

    class Net(torch.nn.Module):
        def forward(self, x):
            return {'other': x, 'out': torch.cat([1 - x[:, :1], x[:, :1]], 1) * 10}

    torch.jit.trace(Net(), torch.zeros(1, 3, 32, 64), strict=False).save(str(tmp_path / 'net.pt'))
    arguments = ('--task', 'segmentation', '--classes', names_file(tmp_path, 'floor', 'wall'), *PLAIN)
    assert run(tmp_path / 'net.pt', images, tmp_path / 'out', *arguments, '--output-name', 'out') == 0
    assert read_class_ids(tmp_path / 'out/segmentation/b.png')[0, [0, 63]].tolist() == [1, 0]
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'weights.pt')
    assert run(tmp_path / 'weights.pt', images, tmp_path / 'out2', *arguments) == 1
    assert 'is no TorchScript file' in capsys.readouterr().err


def test_mistakes(images, tmp_path, capsys):
    """No file, another kind of file, a damaged one, no task, no classes, classes that do not fit."""
    scores = write_scores(tmp_path / 'big.onnx')
    (tmp_path / 'model.bin').write_bytes(b'x')
    (tmp_path / 'broken.onnx').write_bytes(b'x')
    three = names_file(tmp_path, 'a', 'b', 'c')
    for teacher, more, message in (
        (tmp_path / 'none.onnx', (), 'there is no teacher'),
        (tmp_path / 'model.bin', (), 'none of .onnx'),
        (tmp_path / 'broken.onnx', (), 'broken.onnx'),
        (scores, (), 'say what it gives with --task'),
        (scores, ('--task', 'segmentation'), '--classes'),
        (scores, ('--task', 'segmentation', '--classes', 'nothing'), 'neither a data set nor a YAML list'),
        (scores, ('--task', 'segmentation', '--classes', three), 'fits neither scores of the 3 classes'),
        (scores, ('--task', 'depth'), 'gives depth of shape [2,'),
    ):
        assert run(teacher, images, tmp_path / 'out', *more) == 1
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1, error
        assert not list((tmp_path / 'out').glob('**/*.*'))


class SideTeacher:
    """Says class 1 on the left half of whatever it sees: a teacher that contradicts itself when mirrored."""

    tasks = ('segmentation', 'depth')

    def predict(self, image, camera=None):
        ids = np.zeros((4, 8), np.uint8)
        ids[:, :4] = 1
        depth = np.where(ids == 1, 2.0, 4.0).astype(np.float32)
        return Prediction(ids=ids, depth=depth)


def test_disagreement_of_views_is_low_confidence():
    """Mirrored, it says the opposite everywhere: half the votes, and depth apart by log 2."""
    image = np.zeros((4, 8, 3), np.uint8)
    alone, both = (views.label(SideTeacher(), image, views=n) for n in (1, 2))
    assert (alone['segmentation_confidence'] == 1).all() and alone['segmentation'][0].tolist() == [1] * 4 + [
        0
    ] * 4
    np.testing.assert_allclose(both['segmentation_confidence'], 0.5)
    np.testing.assert_allclose(both['depth_confidence'], np.exp(-np.log(2) / views.DEPTH_SPREAD), rtol=1e-4)
    np.testing.assert_allclose(both['depth'], np.sqrt(8), rtol=1e-5)


def test_depth_encoding():
    """256 units a metre; nothing, infinity and what 16 bits do not hold are 0."""
    units, unknown = encode_depth(np.array([[1.5, np.nan, 255.9, 256.1, np.inf, 0.0]], np.float32), 'metric')
    assert units.tolist() == [[384, 0, 65510, 0, 0, 0]]
    assert unknown.tolist() == [[False, True, False, True, True, True]]


def test_tflite_teacher_of_cityscapes(shared, tmp_path):
    """The public DeepLab labels CamVid's streets: mostly right, and more so where its views agree."""
    pytest.importorskip('ai_edge_litert', reason='needs ai-edge-litert, which runs TFLite files')
    teacher = shared / 'pretrained/deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite'
    if not teacher.is_file():
        pytest.skip(f'needs the public DeepLab, and {teacher} is not there')
    from mt_training.data.class_map import class_table, named_map
    from mt_training.data.readers.camvid import CLASS_NAMES, CamVid
    from mt_training.data.readers.cityscapes import Cityscapes

    root = shared / 'data/camvid'
    arguments = ['--dataset', 'camvid', '--split', 'val', '--frames', '40:42', '--task', 'segmentation']
    arguments += ['--classes', 'cityscapes', '--views', '2', '--threads', '1']
    assert run(teacher, root, tmp_path / 'out', *arguments) == 0
    table = class_table(Cityscapes.class_names, CLASS_NAMES, named_map('camvid11', 'cityscapes'))
    truth = CamVid(root, 'val')
    right = []
    for index in (40, 41):
        sample = truth[index]
        ids = table[read_class_ids(tmp_path / f'out/segmentation/{sample.name}.png')]
        both = (sample.labels != 255) & (ids != 255)
        right.append((ids == sample.labels)[both].mean())
        sure = read_class_ids(tmp_path / f'out/segmentation_confidence/{sample.name}.png') == 255
        agree = ids == sample.labels
        assert agree[both & sure].mean() > agree[both & ~sure].mean()
    assert min(right) > 0.75
