"""``benchmark --summary``: what is counted, against numbers worked out by hand."""

import json

import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from torch import nn  # noqa: E402

from mt_training.benchmark import ActivationMemory, main, summarise  # noqa: E402

SIZE = (512, 384)


def test_activation_memory_is_what_lives_at_once():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)).to('meta')
    image = torch.zeros(1, 3, 8, 8, device='meta')
    with torch.no_grad(), ActivationMemory() as memory:
        net(image)
    # the first convolution's result and its ReLU, 4×8×8 float32 each; then one is gone
    assert memory.peak == 2 * 4 * 64 * 4
    inplace = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True)).to('meta')
    with torch.no_grad(), ActivationMemory() as memory:
        inplace(image)
    assert memory.peak == 4 * 64 * 4


def test_multiply_adds_grow_with_the_image():
    small, large = (summarise('fastsegnet', {'classes': 11}, size) for size in ((256, 192), SIZE))
    assert large['multiply_adds'] == pytest.approx(4 * small['multiply_adds'], rel=1e-3)
    assert large['activation_bytes'] == pytest.approx(4 * small['activation_bytes'], rel=1e-2)
    assert large['parameters'] == small['parameters'] < 5e6


def test_nano_costs_a_third_of_small():
    nano, small = (summarise(name, {'classes': 11}, SIZE) for name in ('mtnet-nano', 'mtnet-small'))
    assert nano['multiply_adds'] / small['multiply_adds'] == pytest.approx(1 / 3, abs=0.03)


def test_the_table_names_every_model(tmp_path, capsys):
    output = tmp_path / 'summary.json'
    words = ['--summary', '--config', 'fastsegnet', 'mtan_edge', '--size', '64x64', '--output', str(output)]
    assert main(words) == 0
    printed, written = capsys.readouterr().out, json.loads(output.read_text())
    assert written['size'] == [64, 64] and set(written['models']) == {'fastsegnet', 'mtan_edge'}
    assert f'{written["models"]["fastsegnet"]["parameters"] / 1e6:.2f}' in printed


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['--size', '65x64'], 'multiples of 32'),
        (['--size', 'big'], 'WIDTHxHEIGHT'),
        (['--config', 'lightglue'], 'lightglue'),
    ],
)
def test_a_wrong_command_gets_one_sentence(words, sentence, capsys):
    assert main(['--summary', *words]) == 1
    message = capsys.readouterr().err
    assert sentence in message and message.count('\n') == 1
