"""Rewriting of exported graphs keeps their numbers."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from mt_training.graph import fuse_padding  # noqa: E402
from mt_training.models.blocks import FoldedConv  # noqa: E402


class Padded(nn.Module):
    def __init__(self, mode='constant', value=0.0, used_twice=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.other = nn.Conv2d(3, 4, 3, 2)
        self.mode, self.value, self.used_twice = mode, value, used_twice

    def forward(self, x):
        padded = F.pad(x, (0, 1, 2, 1), self.mode, self.value)
        out = self.conv(padded).mean() + self.other(padded)
        return out + padded.mean() if self.used_twice else out


def exported(net, path):
    torch.manual_seed(0)
    image = torch.randn(1, 3, 16, 24)
    torch.onnx.export(
        net.eval(), (image,), str(path), input_names=['x'], dynamic_axes={'x': {2: 'H', 3: 'W'}},
        opset_version=17, dynamo=False,
    )  # fmt: skip
    model = onnx.load(str(path))
    return model, image.numpy()


def computed(model, image):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    return session.run(None, {'x': image})[0]


def test_padding_goes_into_all_convolutions_behind_it(tmp_path):
    """One-sided padding disappears, with the arithmetic that led to it; the convolutions' own is kept."""
    model, image = exported(Padded(), tmp_path / 'net.onnx')
    before = computed(model, image)
    assert fuse_padding(model) == 1
    assert {n.op_type for n in model.graph.node} == {'Conv', 'ReduceMean', 'Add'}
    np.testing.assert_allclose(computed(model, image), before, atol=1e-6)


@pytest.mark.parametrize(
    'options', [{'mode': 'reflect'}, {'value': 1.0}, {'used_twice': True}], ids=['mirror', 'ones', 'used']
)
def test_other_padding_stays(options, tmp_path):
    """What a convolution cannot do itself is left as it is."""
    model, image = exported(Padded(**options), tmp_path / 'net.onnx')
    before = computed(model, image)
    assert fuse_padding(model) == 0
    np.testing.assert_array_equal(computed(model, image), before)


def test_the_sum_of_convolutions_is_the_convolution_of_the_concatenation():
    """Maps of strides 2, 4 and 1; with batch norm and after it has been folded away."""
    torch.manual_seed(0)
    block = FoldedConv(2 * 4 + 16 + 5, 6).eval()
    for parameter in (block[1].weight, block[1].bias, block[1].running_mean):
        nn.init.normal_(parameter)
    maps = [torch.randn(2, c, 8 * s, 12 * s) for c, s in ((2, 2), (1, 4), (5, 1))]
    torch.testing.assert_close(block.summed(maps, (2, 4, 1)), block(maps, (2, 4, 1)), atol=1e-5, rtol=1e-5)
    block[0].bias, block[1] = nn.Parameter(torch.randn(6)), nn.Identity()
    torch.testing.assert_close(block.summed(maps, (2, 4, 1)), block(maps, (2, 4, 1)), atol=1e-5, rtol=1e-5)
