"""Descriptors at keypoints alone are those of the whole map."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from mt_training.half import between_products, values_of  # noqa: E402
from mt_training.point_descriptors import PREFIX, describe_points_only  # noqa: E402


class Described(nn.Module):
    """A map of descriptors, sampled at points [1,K,2] in −1 … 1."""

    def __init__(self, kernel=3, align=False, seen=False, inputs=5):
        super().__init__()
        self.before = nn.Conv2d(3, inputs, 1)
        self.head = nn.Sequential(nn.Conv2d(inputs, 6, kernel, 1, kernel // 2), nn.ReLU(), nn.Conv2d(6, 4, 1))
        self.align, self.seen = align, seen

    def forward(self, x, points):
        dense = self.head(self.before(x))
        sampled = F.grid_sample(dense, points[:, :, None], align_corners=self.align)[..., 0]
        return F.normalize(sampled.transpose(1, 2), dim=-1) + (dense.mean() if self.seen else 0)


def exported(net, path):
    torch.manual_seed(0)
    x, points = torch.randn(1, 3, 12, 20), torch.rand(1, 9, 2) * 1.8 - 0.9
    torch.onnx.export(
        net.eval(), (x, points), str(path), input_names=['x', 'points'], output_names=['descriptors'],
        dynamic_axes={'x': {2: 'H', 3: 'W'}}, opset_version=17, dynamo=False,
    )  # fmt: skip
    return onnx.load(str(path))


def computed(model, height=12, width=20, cells=None):
    """Run on noise and points at ``cells`` (x, y) [9,2], by default anywhere between the outermost ones."""
    random = np.random.default_rng(1)
    size = np.array([width, height])
    cells = random.uniform(0, 1, (9, 2)) * (size - 1) if cells is None else np.array(cells)
    points = ((cells + 0.5) / size * 2 - 1).astype(np.float32)
    x = random.normal(size=(1, 3, height, width)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    return session.run(None, {'x': x, 'points': points[None]})[0]


def test_they_are_those_of_the_map(tmp_path):
    """For any size of the map; also where the cells around a point reach over the border."""
    model = exported(Described(), tmp_path / 'net.onnx')
    sizes = [(12, 20), (7, 9), (40, 8)]
    before = [computed(model, *size) for size in sizes]
    assert describe_points_only(model)
    assert 'GridSample' not in {node.op_type for node in model.graph.node}
    assert sum(node.op_type == 'Conv' for node in model.graph.node) == 1, 'the one before the head'
    for size, expected in zip(sizes, before):
        np.testing.assert_allclose(computed(model, *size), expected, atol=2e-6)


def test_points_on_cells_and_in_the_corners(tmp_path):
    """Whole cells, half ones and the corners of the map."""
    model = exported(Described(), tmp_path / 'net.onnx')
    cells = [(0, 0), (19, 0), (3, 11), (19, 11), (7, 5), (7.5, 5), (7, 5.5), (0.001, 10.5), (18.5, 10.75)]
    before = computed(model, cells=cells)
    assert describe_points_only(model)
    np.testing.assert_allclose(computed(model, cells=cells), before, atol=2e-6)


def test_points_beyond_the_outermost_cells(tmp_path):
    """They get the descriptor of the border, and nothing is read outside the map."""
    model = exported(Described(), tmp_path / 'net.onnx')
    assert describe_points_only(model)
    outside = [(-0.4, 5), (-3, -3), (19.4, 5), (25, 15), (5, -0.4), (5, 11.4), (5, 99), (-9, 5), (30, 30)]
    inside = np.clip(outside, 0, (19, 11))
    np.testing.assert_allclose(computed(model, cells=outside), computed(model, cells=inside), atol=2e-6)


@pytest.mark.parametrize('options', [{'kernel': 1}, {'kernel': 5}, {'align': True}, {'seen': True}], ids=str)
def test_other_maps_stay(options, tmp_path):
    """Another kernel, another sampling, or a map that something else needs too."""
    model = exported(Described(**options), tmp_path / 'net.onnx')
    before = computed(model)
    assert not describe_points_only(model)
    np.testing.assert_array_equal(computed(model), before)


def test_places_are_no_values_of_a_product(tmp_path):
    """In float16 a cell's number would not be exact: what says where to look stays in float32."""
    model = exported(Described(), tmp_path / 'net.onnx')
    assert describe_points_only(model)
    inner = between_products(model.graph)
    makers = {name: node for node in model.graph.node for name in node.output}
    lookup = next(n for n in model.graph.node if n.op_type == 'Gather' and n.name in inner)
    todo, places = [makers[lookup.input[1]]], []
    while todo:
        node = todo.pop()
        places.append(node)
        todo += [makers[name] for name in values_of(node) if name in makers]
    assert any(node.op_type == 'Floor' and node.name.startswith(PREFIX) for node in places)
    assert not {node.name for node in places} & inner


class Photographed(Described):
    """The same of an image [1,H,W,3], as networks see it."""

    def forward(self, x, points):
        return super().forward(x.permute(0, 3, 1, 2), points)


@pytest.mark.parametrize(('size', 'expected'), [((20, 12), True), ((7, 5), True), ((6, 5), False)])
def test_a_map_that_is_small_for_its_points_stays(size, expected, tmp_path):
    """Nine points at 16 cells each, against nine products at each cell of the map: 32 cells are the limit."""
    path = tmp_path / 'net.onnx'
    torch.onnx.export(
        Photographed().eval(), (torch.randn(1, 12, 20, 3), torch.rand(1, 9, 2)), str(path),
        input_names=['x', 'points'], output_names=['descriptors'],
        dynamic_axes={'x': {1: 'H', 2: 'W'}}, opset_version=17, dynamo=False,
    )  # fmt: skip
    assert describe_points_only(onnx.load(str(path)), size) is expected
