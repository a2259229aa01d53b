"""Rewriting of exported graphs keeps their numbers."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mt_training.graph import fuse_padding
from mt_training.models.blocks import conv_bn, folded_conv


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


@pytest.mark.parametrize('training', [True, False])
def test_folding_is_convolving_the_concatenation(training):
    """Maps of strides 2, 4 and 1 give what their unshuffled concatenation gives, gradients too."""
    torch.manual_seed(0)
    block = conv_bn(2 * 4 + 16 + 5, 6, 1)
    nn.init.normal_(block[1].weight)
    nn.init.normal_(block[1].bias)
    block[1].running_mean.normal_()
    block.train(training)
    maps = [torch.randn(2, c, 8 * s, 12 * s) for c, s in ((2, 2), (1, 4), (5, 1))]
    found, gradient = [], []
    for fold in (True, False):
        one = copy.deepcopy(block)
        joined = torch.cat([F.pixel_unshuffle(maps[0], 2), F.pixel_unshuffle(maps[1], 4), maps[2]], 1)
        found.append(folded_conv(one, maps, (2, 4, 1)) if fold else one(joined))
        gradient.append(torch.autograd.grad(found[-1].square().sum(), one[0].weight)[0])
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*gradient, atol=1e-2, rtol=1e-4)
