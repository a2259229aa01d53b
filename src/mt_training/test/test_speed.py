"""``speed``: what is varied, and what trained weights allow."""

import json

import pytest

pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from mt_perception.errors import MtError
from mt_training.models import build_network
from mt_training.speed import main, parse_changes, vary


def test_settings_are_yaml():
    assert parse_changes('') == {}
    assert parse_changes('width=32,depths=[1, 1, 2, 1],encoder=swin_nano') == {
        'width': 32, 'depths': [1, 1, 2, 1], 'encoder': 'swin_nano',
    }  # fmt: skip
    for text in ('width', 'width=[1', 'width='):
        with pytest.raises(MtError, match='is not KEY=VALUE'):
            parse_changes(text)


def test_trained_weights_fit_or_are_refused():
    config = {'architecture': 'fastsegnet', 'model': {'classes': 3, 'width': 16}}
    trained = build_network('fastsegnet', **config['model'])
    net, changed = vary(config, {'auxiliary': False}, trained)
    assert changed['model'] == {'classes': 3, 'width': 16, 'auxiliary': False}
    assert (net.head[-1].weight == trained.head[-1].weight).all() and not net.training
    with pytest.raises(MtError, match='do not fit'):
        vary(config, {'width': 32}, trained)


def test_a_row_for_every_setting_and_size(tmp_path, capsys):
    words = ['--config', 'fastsegnet', '--size', '64x64', '96x64', '--vary', 'width=16', '--rounds', '1']
    assert main([*words, '--threads', '1', '--output', str(tmp_path)]) == 0
    rows = json.loads((tmp_path / 'speed.json').read_text())
    assert [(row['name'], row['size']) for row in rows] == [
        ('fastsegnet', '64x64'), ('fastsegnet', '96x64'),
        ('fastsegnet width=16', '64x64'), ('fastsegnet width=16', '96x64'),
    ]  # fmt: skip
    assert rows[0]['parameters_m'] > rows[2]['parameters_m'] and all(row['cpu_ms'] > 0 for row in rows)
    assert rows[1]['multiply_adds_g'] == pytest.approx(1.5 * rows[0]['multiply_adds_g'], rel=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ['speed.json'], 'the models are gone'
    printed = capsys.readouterr().out
    assert 'fastsegnet width=16' in printed and 'CPU ms' in printed


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['--config', 'fastsegnet', '--size', '65x64'], 'multiples of 32'),
        ([], 'either --config or --checkpoint'),
        (['--config', 'fastsegnet', '--dataset', 'camvid'], 'needs --checkpoint'),
    ],
)
def test_a_wrong_command_gets_one_sentence(words, sentence, tmp_path, capsys):
    assert main([*words, '--output', str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert sentence in message and message.count('\n') == 1
