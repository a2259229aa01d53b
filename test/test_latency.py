"""``evaluate latency`` through real nodes."""

import argparse
import json

import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here')

from mt_perception.errors import MtError
from mt_perception.evaluation import latency
from mt_perception.evaluation.output import plain, print_table

pytestmark = pytest.mark.dds


def arguments(*words):
    """Return parsed arguments."""
    parser = argparse.ArgumentParser()
    latency.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_metrics_of_a_short_run(corner_model, street, tmp_path, capsys):
    """Both passes, the keys others rely on, and numbers that fit together."""
    words = f'--sequence {street} --rate 4 --matcher nearest --throughput-frames 10'
    args = arguments(*words.split(), '--model', corner_model, '--output', tmp_path / 'out')
    assert latency.run(args) == 0
    metrics = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert metrics['frames_in'] == 30
    assert 1 <= metrics['frames_out'] <= 30
    assert metrics['odometry_frames_out'] <= metrics['frames_out']
    assert metrics['input_hz'] == pytest.approx(4, rel=0.1)
    for key in ('end_to_end_ms', 'odometry_end_to_end_ms', 'inference_ms'):
        p50, p95, p99 = (metrics[key][name] for name in ('p50', 'p95', 'p99'))
        assert 0 < p50 <= p95 <= p99, key
    assert metrics['end_to_end_ms']['p50'] > metrics['inference_ms']['p50'], (
        'the whole is longer than its part'
    )
    assert metrics['max_throughput_hz'] > 0
    assert metrics['max_odometry_hz'] > 0
    assert metrics['warm_up_frames'] == 0
    assert metrics['machine']['cores']
    assert (tmp_path / 'out' / 'latency.png').stat().st_size > 10000
    out = capsys.readouterr().out
    assert 'image → odometry' in out
    assert 'images came out at' in out


@pytest.mark.parametrize(
    ('words', 'part'),
    [
        (['--sequence', '/nowhere'], '/nowhere'),
        (['--rate', '0'], '--rate'),
        (['--model', '/etc/hostname'], '/etc/hostname'),
    ],
)
def test_bad_input(corner_model, street, words, part, tmp_path):
    """A sentence before any node starts."""
    defaults = {'--sequence': street, '--model': corner_model, '--output': tmp_path}
    defaults.update(zip(words[::2], words[1::2], strict=True))
    with pytest.raises(MtError, match=part):
        latency.run(arguments(*[word for pair in defaults.items() for word in pair]))


def test_json_has_no_nan():
    """NaN is not JSON; null is."""
    import numpy as np

    values = {'a': float('nan'), 'b': [np.float32(1.5), np.inf], 'c': np.arange(2)}
    assert plain(values) == {'a': None, 'b': [1.5, None], 'c': [0, 1]}


def test_table_is_aligned(capsys):
    """Columns stand below each other."""
    print_table([('a', '1.0'), ('long name', '12.0')], ('what', 'ms'))
    assert capsys.readouterr().out.splitlines() == [
        'what         ms',
        '---------  ----',
        'a           1.0',
        'long name  12.0',
    ]
