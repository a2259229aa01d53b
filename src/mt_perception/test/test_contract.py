"""What a model file must be, and the sentence a user reads when it is not."""

import json
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import contract_models
from mt_perception.errors import ModelError
from mt_perception.inference.contract import METADATA_KEY, ModelMetadata, read_model
from mt_perception.inference.input_size import choose_input_size
from mt_perception.inference.onnx_file import cut_to_outputs, read_onnx_header


@pytest.fixture
def model(tmp_path):
    """Path of a model that keeps the contract."""
    return contract_models.write_perception(tmp_path / 'model.onnx')


def sentence(error):
    """Return the message of an exception after checking that it is one line that ends without a traceback."""
    text = str(error.value)
    assert text and '\n' not in text
    return text


def test_metadata_survives_the_file(model):
    metadata = contract_models.perception_metadata()
    assert read_model(model).metadata == metadata
    assert ModelMetadata.from_json(metadata.to_json()) == metadata


def test_reader_agrees_with_the_onnx_package(model):
    proto = onnx.load(str(model))
    header = read_onnx_header(model)
    assert header.metadata == {p.key: p.value for p in proto.metadata_props}
    for values, found in ((proto.graph.input, header.inputs), (proto.graph.output, header.outputs)):
        assert list(found) == [v.name for v in values]
        for value in values:
            tensor = value.type.tensor_type
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
            shape = tuple(d.dim_value if d.HasField('dim_value') else d.dim_param for d in tensor.shape.dim)
            assert (found[value.name].dtype, found[value.name].shape) == (dtype, shape)


def test_initializers_listed_as_inputs_are_no_inputs(model):
    proto = onnx.load(str(model))  # files of IR version 3 list their weights as inputs too
    tensor = proto.graph.initializer[1]
    proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(proto, str(model))
    assert list(read_model(model).inputs) == ['image']


def test_reading_is_quick_for_large_files(model):
    proto = onnx.load(str(model))
    big = np.zeros(5_000_000, np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(big, 'big'))
    onnx.save(proto, str(model))
    start = time.thread_time()
    read_model(model)
    assert time.thread_time() - start < 0.05


def test_missing_file(tmp_path):
    with pytest.raises(ModelError) as error:
        read_model(tmp_path / 'nowhere.onnx')
    assert sentence(error) == f"model '{tmp_path / 'nowhere.onnx'}' does not exist"


def test_folder(tmp_path):
    with pytest.raises(ModelError) as error:
        read_model(tmp_path)
    assert 'is a folder' in sentence(error)


@pytest.mark.parametrize(
    'content',
    [b'', b'\x00', b'not a model', b'\x89PNG\r\n\x1a\n' + bytes(100), b'PK\x03\x04' + bytes(64), bytes(4096)],
)
def test_not_an_onnx_file(tmp_path, content):
    path = tmp_path / 'model.onnx'
    path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        read_model(path)
    assert 'is not an ONNX file' in sentence(error)


def test_every_truncation_is_noticed(model, tmp_path):
    content = model.read_bytes()
    path = tmp_path / 'cut.onnx'
    for length in range(0, len(content), 23):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError):
            read_model(path)


def test_git_lfs_pointer(tmp_path):
    path = tmp_path / 'model.onnx'
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n')
    with pytest.raises(ModelError) as error:
        read_model(path)
    assert 'git lfs pull' in sentence(error)


def test_model_without_contract(tmp_path):
    path = contract_models.write_perception(tmp_path / 'model.onnx', extra_metadata={'author': 'somebody'})
    with pytest.raises(ModelError) as error:
        read_model(path)
    assert f"no '{METADATA_KEY}' metadata" in sentence(error) and 'export' in sentence(error)


@pytest.mark.parametrize(
    'changes', [{'contract_version': 2}, {'contract_version': 2, 'kind': None, 'tasks': 'new'}]
)
def test_other_contract_version(model, changes):
    contract_models.change_metadata(model, **changes)
    with pytest.raises(ModelError) as error:
        read_model(model)
    assert 'contract version is 2' in sentence(error) and 'reads version 1' in sentence(error)


def test_fields_of_later_exports_are_ignored(model):
    contract_models.change_metadata(model, invented_later=[1, 2])
    assert read_model(model).metadata == contract_models.perception_metadata()


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'kind': 'toaster'}, "kind 'toaster' is not one of perception, matcher"),
        ({'model_id': None}, 'model_id is missing'),
        ({'model_id': ''}, 'model_id is not a text'),
        ({'tasks': []}, 'tasks is empty'),
        ({'tasks': ['segmentation', 'flow']}, "['flow']"),
        ({'tasks': 'depth'}, 'tasks is not a list'),
        ({'input_size': [64]}, 'input_size is not [width, height]'),
        ({'input_size': [64, 48]}, 'not a multiple of input_multiple 32'),
        ({'class_names': []}, 'class_names has no names'),
        ({'class_colors': [[0, 0, 0]]}, 'class_colors'),
        ({'class_colors': [[0, 0, 300]] * 5}, 'class_colors'),
        ({'movable_classes': ['dog']}, "['dog']"),
        ({'depth_kind': 'guess'}, 'depth_kind is not one of metric, relative'),
        ({'depth_focal': -1}, 'depth_focal'),
        ({'descriptor_dim': 0}, 'descriptor_dim'),
        ({'max_keypoints': 'many'}, 'max_keypoints'),
        ({'global_descriptor_dim': None}, 'global_descriptor_dim'),
    ],
)
def test_broken_metadata(model, changes, words):
    contract_models.change_metadata(model, **changes)
    with pytest.raises(ModelError) as error:
        read_model(model)
    assert str(model) in sentence(error) and words in sentence(error)


def test_metadata_that_is_not_json(tmp_path):
    path = contract_models.write_perception(tmp_path / 'model.onnx', extra_metadata={METADATA_KEY: '{kind:'})
    with pytest.raises(ModelError) as error:
        read_model(path)
    assert 'is not JSON' in sentence(error)
    path = contract_models.write_perception(tmp_path / 'model.onnx', extra_metadata={METADATA_KEY: '[1]'})
    with pytest.raises(ModelError) as error:
        read_model(path)
    assert 'not a JSON object' in sentence(error)


def test_output_of_another_type(tmp_path):
    path = contract_models.write_perception(tmp_path / 'm.onnx', types={'segmentation': TensorProto.INT64})
    with pytest.raises(ModelError) as error:
        read_model(path)
    assert "output 'segmentation' uint8 [1, H, W] expected" in sentence(error)
    assert 'int64 [1, height, width]' in sentence(error)


def test_missing_output(tmp_path):
    path = contract_models.write_perception(tmp_path / 'm.onnx', drop=('scores',))
    with pytest.raises(ModelError) as error:
        read_model(path)
    assert "output 'scores' float32 [1, K] is missing" in sentence(error)


def test_dimension_that_contradicts_the_metadata(tmp_path):
    path = contract_models.write_perception(tmp_path / 'm.onnx')
    contract_models.change_metadata(path, descriptor_dim=32)
    with pytest.raises(ModelError) as error:
        read_model(path)
    assert "output 'descriptors'" in sentence(error) and "'D': 32" in sentence(error)


def test_input_of_another_layout(model):
    proto = onnx.load(str(model))
    for axis, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, (1, 3, 32, 64), strict=True):
        axis.dim_value = size
    onnx.save(proto, str(model))
    with pytest.raises(ModelError) as error:
        read_model(model)
    assert "input 'image' uint8 [1, H, W, 3] expected" in sentence(error)


def test_matcher_where_perception_is_expected(tmp_path):
    path = contract_models.write_matcher(tmp_path / 'matcher.onnx')
    with pytest.raises(ModelError) as error:
        read_model(path, 'perception')
    assert 'is a matcher model (lightglue-test) where a perception model is needed' in sentence(error)
    assert read_model(path, 'matcher').metadata.matches_model == 'test-net-01234567'


def test_segmentation_only_model(tmp_path):
    metadata = contract_models.perception_metadata(
        tasks=['segmentation'], depth_kind=None, descriptor_dim=0, global_descriptor_dim=0, max_keypoints=0
    )
    path = contract_models.write_perception(tmp_path / 'm.onnx', metadata, confidence=False)
    assert list(read_model(path).outputs) == ['segmentation']


def test_colors_and_movable_classes():
    metadata = contract_models.perception_metadata()
    assert metadata.movable_class_ids == [3, 4]
    assert metadata.color_table.shape == (256, 3)
    assert metadata.color_table[2].tolist() == [128, 64, 128] and not metadata.color_table[255].any()


def test_json_is_one_value_with_every_field():
    values = json.loads(contract_models.perception_metadata().to_json())
    assert values['contract_version'] == 1 and values['input_size'] == [64, 32] and values['accuracy'] == {}


def model_of(tmp_path, size, fixed=False):
    metadata = contract_models.perception_metadata(input_size=list(size))
    return read_model(contract_models.write_perception(tmp_path / 'm.onnx', metadata, fixed=fixed))


@pytest.mark.parametrize(
    ('image', 'expected'),
    [
        ((640, 480), (544, 416)),
        ((1280, 720), (672, 384)),
        ((1242, 375), (960, 288)),
        ((480, 640), (416, 544)),
    ],
)
def test_automatic_size_keeps_the_aspect_ratio(tmp_path, image, expected):
    width, height = choose_input_size(model_of(tmp_path, (640, 384)), image)
    assert (width, height) == expected
    assert width / height == pytest.approx(image[0] / image[1], rel=0.03)
    assert width * height == pytest.approx(640 * 384, rel=0.13)


def test_automatic_size_without_an_image_is_the_models(tmp_path):
    assert choose_input_size(model_of(tmp_path, (640, 384))) == (640, 384)


@pytest.mark.parametrize('image', [(1, 1), (5000, 10), (10, 5000)])
def test_automatic_size_of_strange_images_is_legal(tmp_path, image):
    width, height = choose_input_size(model_of(tmp_path, (640, 384)), image)
    assert width >= 32 and height >= 32 and width % 32 == 0 and height % 32 == 0


def test_requested_sizes(tmp_path):
    model = model_of(tmp_path, (640, 384))
    assert choose_input_size(model, (640, 480), (320, 256)) == (320, 256)
    assert choose_input_size(model, (640, 480), (512, 0)) == (512, 384)
    assert choose_input_size(model, (640, 480), (0, 384)) == (512, 384)
    with pytest.raises(ModelError) as error:
        choose_input_size(model, (640, 480), (650, 480))
    assert '650 × 480' in sentence(error) and 'use 640 × 480' in sentence(error)
    with pytest.raises(ModelError):
        choose_input_size(model, (640, 480), (-32, 32))


def test_fixed_model_takes_its_size_only(tmp_path):
    model = model_of(tmp_path, (96, 64), fixed=True)
    assert model.fixed_size == (96, 64)
    assert choose_input_size(model, (640, 480)) == (96, 64)
    assert choose_input_size(model, (640, 480), (96, 64)) == (96, 64)
    with pytest.raises(ModelError) as error:
        choose_input_size(model, (640, 480), (64, 64))
    assert 'takes 96 × 64 images only' in sentence(error)


def test_fixed_graph_that_contradicts_the_metadata(tmp_path):
    model_of(tmp_path, (96, 64), fixed=True)
    contract_models.change_metadata(tmp_path / 'm.onnx', input_size=[64, 64])
    with pytest.raises(ModelError) as error:
        read_model(tmp_path / 'm.onnx')
    assert '[96, 64]' in sentence(error) and '[64, 64]' in sentence(error)


def test_cut_keeps_what_the_outputs_need(model):
    cut = onnx.load_from_string(cut_to_outputs(model, ['depth']))
    onnx.checker.check_model(cut)
    whole = onnx.load(str(model))
    assert [o.name for o in cut.graph.output] == ['depth']
    assert [n.op_type for n in cut.graph.node] == ['Cast', 'Split', 'Squeeze', 'Div', 'Mul', 'Div', 'Cast']
    assert {i.name for i in cut.graph.initializer} == {'axes', 'ten', 'channels'}
    assert cut.metadata_props == whole.metadata_props and cut.opset_import == whole.opset_import
    everything = onnx.load_from_string(cut_to_outputs(model, [o.name for o in whole.graph.output]))
    assert everything == whole


def test_cut_keeps_what_inner_graphs_use(tmp_path):
    value, node = helper.make_tensor_value_info, helper.make_node
    outer = value('y', TensorProto.FLOAT, [1])
    then = helper.make_graph(
        [node('Neg', ['used_inside'], ['y1'])], 't', [], [value('y1', TensorProto.FLOAT, [1])]
    )
    other = helper.make_graph([], 'e', [], [value('handed_through', TensorProto.FLOAT, [1])])
    graph = helper.make_graph(
        [
            node('Abs', ['x'], ['used_inside']),
            node('Exp', ['x'], ['handed_through']),
            node('Log', ['x'], ['z']),
            node('If', ['c'], ['y'], then_branch=then, else_branch=other),
        ],
        'g',
        [value('x', TensorProto.FLOAT, [1]), value('c', TensorProto.BOOL, [])],
        [outer, value('z', TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / 'm.onnx'))
    cut = onnx.load_from_string(cut_to_outputs(tmp_path / 'm.onnx', ['y']))
    assert [n.op_type for n in cut.graph.node] == ['Abs', 'Exp', 'If']
