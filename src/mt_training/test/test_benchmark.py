"""``benchmark`` of files: in turns, with ratios and differences to the first."""

import json

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from mt_training.benchmark import main  # noqa: E402
from mt_training.export import export, load_net  # noqa: E402
from mt_training.half import convert  # noqa: E402
from mt_training.quantization.post_training import quantize_dynamic  # noqa: E402
from mt_training.timing import alternate, summarise  # noqa: E402
from tiny_checkpoint import write_checkpoint  # noqa: E402
from tiny_model import write_tiny_model  # noqa: E402

SMALL = {
    'channels': [8, 8, 16, 16],
    'width': 16,
    'tasks': ['segmentation', 'keypoints'],
    'descriptor_dim': 16,
}


def test_turns_alternate_and_ratios_are_of_one_round(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr('mt_training.timing.time.perf_counter', lambda: clock[0])

    def runner(name, seconds):
        def run(given):
            calls.append((name, given))
            clock[0] += seconds * (1 + given)  # the second input takes twice as long

        return run

    times = alternate({'a': runner('a', 0.01), 'b': runner('b', 0.03)}, [0, 1], 4, warm_up=1, progress=False)
    assert [name for name, _ in calls] == ['a', 'b', *'ab', *'ba', *'ab', *'ba']
    assert [given for _, given in calls[2:]] == [0, 0, 1, 1, 0, 0, 1, 1]
    np.testing.assert_allclose(times['b'], [30, 60, 30, 60])
    found = summarise(times)
    assert found['a']['ratio'] == 1 and found['b']['ratio'] == pytest.approx(3)
    assert found['a']['p50_ms'] == pytest.approx(15) and found['a']['p95_ms'] == pytest.approx(20)


def test_formats_side_by_side(tmp_path, capsys):
    torch.set_num_threads(1)
    checkpoint = write_checkpoint(tmp_path, 'kp2dtiny-n', SMALL)
    net, config = load_net(checkpoint)
    path = tmp_path / 'm.onnx'
    export(net, config, path, size=(64, 64))
    half, _ = convert(path)
    small = tmp_path / 'm.int8.onnx'
    quantize_dynamic(path, small)
    output = tmp_path / 'b.json'
    words = [
        checkpoint,
        path,
        half,
        small,
        '--size',
        '64x64',
        '--rounds',
        '3',
        '--threads',
        '1',
        '--count',
        '2',
    ]
    assert main([*map(str, words), '--output', str(output)]) == 0
    found = json.loads(output.read_text())
    rows = found['models']
    assert [row['kind'] for row in rows.values()] == [
        'PyTorch', 'ONNX Runtime float32', 'ONNX Runtime float16', 'ONNX Runtime int8'
    ]  # fmt: skip
    assert list(rows) == ['last.ckpt', 'm.onnx', 'm.fp16.onnx', 'm.int8.onnx']
    assert rows['last.ckpt']['ratio'] == 1 and all(
        row['p95_ms'] >= row['p50_ms'] > 0 for row in rows.values()
    )
    assert rows['m.onnx']['megabytes'] == pytest.approx(path.stat().st_size / 1e6)
    assert rows['m.onnx']['differences']['classes_agreeing'] > 0.999
    near, rough = (rows[n]['differences']['descriptor_cosine'] for n in ('m.onnx', 'm.int8.onnx'))
    assert 0.9 < rough < near
    assert found['size'] == [64, 64] and found['machine']['python']
    assert 'compared with last.ckpt' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        ((), 'either files'),
        (('{model}', '--summary'), 'either files'),
        (('nowhere.onnx',), 'nowhere.onnx'),
        (('nowhere.tflite',), 'neither an exported model'),
        (('{model}', '--rounds', '0'), '--rounds'),
        (('{model}', '--images', 'nowhere'), 'nowhere'),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, tmp_path, capsys):
    model = write_tiny_model(tmp_path / 'm.onnx')
    assert main([word.format(model=model) for word in words]) == 1
    message = capsys.readouterr().err
    assert message.startswith('benchmark: ') and sentence in message and message.count('\n') == 1
