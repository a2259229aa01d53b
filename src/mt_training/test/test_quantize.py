"""8-bit models: what is quantised and what is not, by which numbers, and what the command says of it."""

import json

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
onnx = pytest.importorskip('onnx', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from mt_perception.inference.contract import read_model  # noqa: E402
from mt_training.comparison import compare, head_differences, onnx_runner  # noqa: E402
from mt_training.export import export, load_net  # noqa: E402
from mt_training.half import PRODUCTS, scene  # noqa: E402
from mt_training.quantization.aware import rounded_activation, rounded_weight  # noqa: E402
from mt_training.quantization.graph import chosen_nodes, last_products, read_graph  # noqa: E402
from mt_training.quantize import main  # noqa: E402
from mt_training.tracing import example, fold_batch_norms  # noqa: E402
from tiny_checkpoint import write_checkpoint  # noqa: E402
from tiny_experiment import write_data  # noqa: E402
from tiny_model import write_tiny_matcher  # noqa: E402

SIZE = (96, 64)  # width, height


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Write the training sets of the miniature experiment."""
    torch.set_num_threads(1)
    return write_data(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Write a miniature network."""
    return write_checkpoint(tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def model(checkpoint):
    """Export it."""
    net, config = load_net(checkpoint)
    export(net, config, checkpoint.parent / 'model.onnx', {'miou': 0.5}, SIZE)
    return checkpoint.parent / 'model.onnx'


def run(*words):
    """Run the command with two rounds of timing."""
    return main([*map(str, words), '--rounds', '2', '--held-out', '2', '--threads', '1'])


def nodes_in_8_bits(path):
    """Return the names of the convolutions whose weights are dequantised, and of those whose are not."""
    graph = read_graph(path).graph
    dequantised = {n.output[0] for n in graph.node if n.op_type == 'DequantizeLinear'}
    products = [n for n in graph.node if n.op_type in PRODUCTS]
    inside = {n.name for n in products if n.input[1] in dequantised}
    return inside, {n.name for n in products} - inside


def test_static_keeps_places_final_layers_and_the_contract(model, data, tmp_path, capsys):
    output, numbers = tmp_path / 'small.onnx', tmp_path / 'numbers'
    images = data / 'camvid/train/images'
    before = read_model(model).metadata
    matcher = write_tiny_matcher(tmp_path / 'l.onnx', before.model_id)
    words = ('--model', model, '--images', images, '--output', output, '--matcher', matcher)
    assert run(*words, '--report', numbers) == 0
    after = read_model(output).metadata
    assert read_model(tmp_path / 'l.int8.onnx', 'matcher').metadata.matches_model == after.model_id
    assert after.model_id != before.model_id and after.model_id.startswith('mtnet-nano-')
    assert after.accuracy == {} and 'calibrated (minmax)' in after.training_data[-1]
    assert (after.tasks, after.class_names, after.max_keypoints) == (
        before.tasks, before.class_names, before.max_keypoints
    )  # fmt: skip
    inside, outside = nodes_in_8_bits(output)
    assert '/net/encoder/blocks.5/expand/Conv' in inside and '/net/pyramid/smooth.0/smooth.0.1/Conv' in inside
    finals = ('/net/segmentation/segmentation.3', '/net/depth/depth.2')
    places = ('/net/keypoints/keypoints.0/keypoints.0.0', '/net/keypoints/keypoints.1')
    firsts = ('/net/encoder/stem', '/net/encoder/blocks.0/depthwise', '/net/encoder/blocks.0/project')
    points = {name for name in outside if name.startswith('point_descriptors/')}
    assert len(points) == 4, "Winograd's products and the final layer of the descriptors"
    assert outside - points == {f'{name}/Conv' for name in (*firsts, *finals, *places)} | {
        '/net/fine/Conv_1',  # of the image's pixels
        '/net/place/Gemm',
        '/MatMul',
    }
    assert output.stat().st_size < 0.6 * model.stat().st_size
    said = capsys.readouterr().out
    written = json.loads((numbers / 'metrics.json').read_text())
    assert 'CPU ms, median' in said and f'{written["differences"]["global_cosine"]:.3f}' in said
    assert written['differences']['global_cosine'] > 0.9 and set(written['differences']) == {
        'classes_agreeing', 'depth_relative', 'keypoints_near', 'descriptor_cosine', 'global_cosine'
    }  # fmt: skip
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith('.')] == []


def test_targets_differ_in_signs_and_biases(model, data, tmp_path):
    kinds = {}
    for target in ('cpu', 'tensorrt'):
        output = tmp_path / f'{target}.onnx'
        words = ('--model', model, '--images', data / 'camvid/train/images', '--target', target)
        assert run(*words, '--exclude', '*/depth/*', '--count', 2, '--output', output) == 0
        assert not any('/depth/' in name for name in nodes_in_8_bits(output)[0])
        tensors = {t.name: t for t in onnx.load(str(output)).graph.initializer}
        names = [name for name in tensors if name.endswith('Clip_output_0_zero_point')]
        kinds[target] = {onnx.numpy_helper.to_array(tensors[n]).dtype.name for n in names}
        biases = [t for t in tensors.values() if t.data_type == onnx.TensorProto.INT32 and len(t.dims)]
        assert bool(biases) == (target == 'cpu'), 'TensorRT takes biases in floating point only'
        weights = [onnx.numpy_helper.to_array(t) for t in tensors.values() if t.name.endswith('_quantized')]
        largest = max(np.abs(w.astype(int)).max() for w in weights if w.dtype == np.int8)
        assert largest == (64 if target == 'cpu' else 127)
    assert kinds == {'cpu': {'uint8'}, 'tensorrt': {'int8'}}


def test_dynamic(model, tmp_path):
    output = tmp_path / 'dynamic.onnx'
    assert run('--model', model, '--mode', 'dynamic', '--output', output) == 0
    kinds = [node.op_type for node in onnx.load(str(output)).graph.node]
    assert 'ConvInteger' in kinds and 'Conv' in kinds
    runners = [onnx_runner(path, 1) for path in (model, output)]
    found = compare(*runners, [scene(*SIZE)])
    assert found['global_cosine'] > 0.9 and found['depth_relative'] < 0.2


def test_qat_exports_the_ranges_it_learned(checkpoint, data, tmp_path):
    output, work = tmp_path / 'qat.onnx', tmp_path / 'work'
    words = ('--mode', 'qat', '--checkpoint', checkpoint, '--data', data, '--pretrained', data / 'pretrained')
    words += ('--images', data / 'camvid/train/images', '--work', work, '--output', output, '--count', '2')
    changes = ('steps_per_epoch=2', 'schedule=[[camvid]]')
    assert main([*map(str, words), '--epochs', '1', '--rate', '1', '--size', '96x64', '--rounds', '1',
                 '--held-out', '1', '--threads', '1', *changes]) == 0  # fmt: skip
    state = torch.load(work / 'last.ckpt', map_location='cpu', weights_only=False)['state_dict']
    name = 'encoder.blocks.5.project'
    assert bool(state[f'net.{name}.seen'])
    low, high = (float(state[f'net.{name}.{key}']) for key in ('low', 'high'))
    graph = onnx.load(str(output)).graph
    scale = next(t for t in graph.initializer if t.name == '/net/encoder/blocks.5/Clip_1_output_0_scale')
    # ReLU6 leaves nothing below zero
    assert onnx.numpy_helper.to_array(scale) == pytest.approx((high - min(low, 0)) / 255, rel=1e-3)
    trained, _ = nodes_in_8_bits(output)
    assert '/net/encoder/blocks.5/project/Conv' in trained
    assert read_model(output).metadata.training_data[-1].startswith('trained 1 epochs for 8-bit')
    start = torch.load(checkpoint, map_location='cpu', weights_only=False)['state_dict']
    assert not torch.equal(start[f'net.{name}.weight'], state[f'net.{name}.weight'])


def test_folding_keeps_what_a_network_says(checkpoint):
    net, _ = load_net(checkpoint)
    image = example(net)
    with torch.no_grad():
        before = net(image)
        gone = fold_batch_norms(net)
        after = net(image)
    assert len(gone) == 15 and not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-4, msg=name)


def test_rounding_by_hand():
    x = torch.tensor([-1.0, -0.004, 0.0, 0.011, 2.0, 9.0])
    low, high = torch.tensor(-0.55, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    out = rounded_activation(x, low, high)  # steps of 0.01, zero is level 55
    torch.testing.assert_close(out, torch.tensor([-0.55, 0.0, 0.0, 0.01, 2.0, 2.0]))
    out.sum().backward()
    assert low.grad != 0 and high.grad > 0, 'what is clipped pulls the range'
    weight = torch.tensor([[0.5, -1.0], [0.02, 0.005]])
    torch.testing.assert_close(rounded_weight(weight, 4), torch.tensor([[0.5, -1.0], [0.02, 0.005]]))
    torch.testing.assert_close(rounded_weight(weight, 1), torch.tensor([[0.0, -1.0], [0.02, 0.0]]))


def test_differences_by_hand():
    first = {
        'segmentation': np.array([[[1, 1], [0, 2]]], np.uint8),
        'depth': np.full((1, 2, 2), 2.0, np.float32),
        'keypoints': np.array([[[5, 5], [9, 9], [0, 0]]], np.float32),
        'scores': np.array([[0.9, 0.8, 0.0]], np.float32),
        'descriptors': np.eye(3, dtype=np.float32)[None],
        'global_descriptor': np.array([[1.0, 0.0]], np.float32),
    }
    second = {name: value.copy() for name, value in first.items()}
    second['segmentation'][0, 0, 0] = 7
    second['depth'] += np.float32(0.5)
    second['keypoints'][0] = [[9, 9.5], [5, 20], [5, 5]]  # the last is padding
    second['descriptors'][0, 0] = [0.6, 0.8, 0]
    second['global_descriptor'][0] = [0.6, 0.8]
    found = head_differences(first, second)
    assert found['classes_agreeing'] == 0.75 and found['depth_relative'] == pytest.approx(0.25)
    assert found['keypoints_near'] == 0.5 and found['descriptor_cosine'] == pytest.approx(0.8)
    assert found['global_cosine'] == pytest.approx(0.6)


def test_the_last_products_of_a_path(model):
    graph = read_graph(model).graph
    assert last_products(graph, ['depth']) == {'/net/depth/depth.2/Conv'}
    names = {n.split('/')[-2] for n in last_products(graph, ['depth'], 2)}
    assert names == {'depth.2', 'depth.1.1'}
    everything = chosen_nodes(read_graph(model), keep_sensitive=False)
    assert '/net/depth/depth.2/Conv' in everything


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('--mode', 'static'), 'needs --model'),
        (('--mode', 'qat'), '--images DIR'),
        (('--model', '{model}'), '--images DIR'),
        (('--model', 'nowhere.onnx', '--mode', 'dynamic'), 'nowhere.onnx'),
        (('--model', '{model}', '--mode', 'dynamic', '--exclude', '*/dept/*'), "'*/dept/*' fits no node"),
        (('--model', '{model}', '--mode', 'dynamic', '--output', '{model}'), 'is the model itself'),
        (('--model', '{model}', '--images', 'nowhere'), 'nowhere'),
        (('--model', '{model}', '--images', 'x', '--count', '0'), '--count 0'),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [word.format(model=model) for word in words]
    if '--output' not in words:
        words += ['--output', str(tmp_path / 'out.onnx')]
    assert run(*words) == 1
    message = capsys.readouterr().err
    assert message.startswith('quantize: ') and sentence in message and message.count('\n') == 1
    assert not list(tmp_path.iterdir())
