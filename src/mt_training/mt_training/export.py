"""
Export a trained network under the model contract.

``./mt run mt_training export --checkpoint runs/mtnet_small/last.ckpt --output mtnet_small.onnx``
"""

import argparse
import hashlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import yaml

from mt_perception.errors import MtError
from mt_perception.inference.contract import METADATA_KEY, ModelMetadata
from mt_training.deploy import DeployedNet
from mt_training.graph import fuse_padding
from mt_training.models import build_network
from mt_training.models.raw import RawNet
from mt_training.point_descriptors import describe_points_only
from mt_training.weights import save_weights

OPSET = 17
MULTIPLE = 32  # pixels; width and height of the input are multiples of it
CLASS_COLORS = {
    'sky': [128, 180, 230],
    'building': [128, 64, 64],
    'pole': [192, 192, 128],
    'road': [128, 64, 128],
    'pavement': [230, 110, 190],
    'tree': [90, 140, 35],
    'sign': [220, 200, 0],
    'fence': [120, 120, 170],
    'car': [30, 60, 200],
    'pedestrian': [220, 20, 60],
    'bicyclist': [0, 170, 170],
}
# of classes whose names are not above, in turn
OTHER_COLORS = [
    [int(127.5 * (1 + np.sin(2.4 * i + phase))) for phase in (0, 2.1, 4.2)] for i in range(1, 256)
]
MOVABLE = ('car', 'pedestrian', 'bicyclist')
IMAGE_OUTPUTS = ('segmentation', 'segmentation_confidence', 'depth')  # as large as the input
# largest difference to PyTorch that passes: mean absolute error, if nothing else is said
PARITY_LIMITS = {
    'segmentation': 1e-3,  # part of the pixels with another class
    'segmentation_confidence': 0.5,
    'depth': 1e-3,
    'keypoints': 0.01,  # part of the points without a partner within 0.05 px
    'scores': 1e-4,
    'descriptors': 1e-3,
    'global_descriptor': 1e-4,
}
RAW_LIMIT = 1e-3  # largest mean difference of any output of the layers alone


def read_config(checkpoint):
    """Return the configuration of the experiment that wrote ``checkpoint``."""
    checkpoint = Path(checkpoint)
    config = checkpoint.parent / 'config.yaml'
    for path in (checkpoint, config):
        if not path.is_file():
            raise MtError(f'{path} does not exist; --checkpoint takes a file that train wrote')
    return yaml.safe_load(config.read_text())


def load_net(checkpoint):
    """
    Load a trained network (its averaged weights where the run kept them).

    :param checkpoint: a file written by ``train``; ``config.yaml`` lies beside it.
    :return: (network in evaluation mode, the experiment's configuration).
    :raises MtError: the file or its configuration is missing.
    """
    config = read_config(checkpoint)
    state = torch.load(checkpoint, map_location='cpu', weights_only=False)['state_dict']
    net = build_network(config['architecture'], **config['model'])
    net.load_state_dict({k.removeprefix('net.'): v for k, v in state.items() if k.startswith('net.')})
    return net.eval(), config


def weights_hash(net):
    """Return eight hexadecimal digits that identify the weights."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:8]


def model_id(net, config):
    """Return the name of exactly these weights."""
    return f'{config["architecture"]}-{weights_hash(net)}'


def parity(deployed, path, image):
    """
    Compare the exported file with PyTorch on one image.

    :param image: [1,H,W,3] uint8.
    :return: dict output → difference, as ``PARITY_LIMITS`` defines it. Keypoints are compared as sets:
        two points of equal score may change places.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    exported = session.run(None, {'image': image})
    with torch.inference_mode():
        expected = [value.numpy() for value in deployed(torch.from_numpy(image))]
    report = {}
    names = deployed.output_names()
    if 'keypoints' in names:
        first, second = (arrays[names.index('keypoints')][0] for arrays in (expected, exported))
        distance = np.linalg.norm(first[:, None] - second[None], axis=-1)
        partner, near = distance.argmin(1), distance.min(1) < 0.05
        report['keypoints'] = float(1 - near.mean())
        for name in ('scores', 'descriptors'):
            a, b = (arrays[names.index(name)][0] for arrays in (expected, exported))
            report[name] = float(np.abs(a[near] - b[partner[near]]).mean())
    for name, a, b in zip(names, expected, exported, strict=True):
        if name in report:
            continue
        if name == 'segmentation':
            report[name] = float((a != b).mean())
        else:
            report[name] = float(np.abs(a.astype(np.float64) - b).mean())
    return report


def export(net, config, output, accuracy=None, size=(512, 384), image=None, fixed=False):
    """
    Write the ONNX file and check it against PyTorch, output by output.

    :param net: trained network.
    :param config: the experiment's configuration.
    :param output: path of the file; written beside and renamed, so it is whole or absent.
    :param accuracy: measured numbers for the metadata.
    :param size: (width, height) of the default input.
    :param image: [H,W,3] uint8 RGB of that size to compare on; noise without one.
    :param fixed: fix height and width in the graph; some networks can do no other.
    :return: the parity report.
    :raises MtError: a size the network cannot take; an output differs from PyTorch by more than its limit.
    """
    import onnx

    check_size(size)
    fixed = fixed or net.fixed_size

    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    deployed = DeployedNet(net, config['export'].get('max_keypoints', 0))
    if image is None:
        image = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    image = np.ascontiguousarray(image[None])
    partial = output.with_suffix('.part.onnx')
    dynamic = None if fixed else {'image': {1: 'H', 2: 'W'}}
    names = deployed.output_names()
    if dynamic:
        dynamic.update({name: {1: 'H', 2: 'W'} for name in names if name in IMAGE_OUTPUTS})
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            deployed,
            (torch.from_numpy(image),),
            str(partial),
            input_names=['image'],
            output_names=names,
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )
    try:
        model = onnx.load(str(partial))
        fuse_padding(model)
        describe_points_only(model, size)
        _name_shapes(model, deployed)
        metadata = ModelMetadata(
            kind='perception',
            architecture=config['architecture'],
            model_id=model_id(net, config),
            tasks=list(deployed.tasks),
            input_size=list(size),
            input_multiple=MULTIPLE,
            **_task_metadata(deployed, config),
            training_data=config['export']['training_data'],
            license=config['export']['license'],
            accuracy=accuracy or {},
        )
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, metadata.to_json()
        onnx.checker.check_model(model)
        onnx.save(model, str(partial))
        report = parity(deployed, partial, image)
        for name, value in report.items():
            if not value <= PARITY_LIMITS[name]:
                raise MtError(
                    f"the exported '{name}' differs from PyTorch by {value:.2g}; the file was not kept"
                )
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return report


def parse_size(text):
    """
    Read 'WIDTHxHEIGHT'.

    :raises MtError: it is something else.
    """
    try:
        width, height = (int(v) for v in text.split('x'))
    except ValueError:
        raise MtError(f"--size '{text}' is not WIDTHxHEIGHT") from None
    return width, height


def check_size(size):
    """
    Check a size of the input.

    :raises MtError: a side is not a multiple of what all networks need.
    """
    if any(v <= 0 or v % MULTIPLE for v in size):
        raise MtError(f'--size {size[0]}x{size[1]}: width and height must be multiples of {MULTIPLE}')


def class_colors(names):
    """Return the colour [r, g, b] of each class."""
    others = iter(OTHER_COLORS)
    return [CLASS_COLORS.get(name) or next(others) for name in names]


def _task_metadata(deployed, config):
    """Return what the metadata says of the tasks there are."""
    found = {}
    if 'segmentation' in deployed.tasks:
        names = config['classes']
        found['class_names'] = names
        found['class_colors'] = class_colors(names)
        found['movable_classes'] = [name for name in names if name in MOVABLE]
    if 'depth' in deployed.tasks:
        found.update(depth_kind='metric', depth_focal=config['focal'])
    if 'keypoints' in deployed.tasks:
        found.update(descriptor_dim=deployed.net.descriptor_dim, max_keypoints=deployed.max_keypoints)
    if 'global_descriptor' in deployed.tasks:
        found.update(global_descriptor_dim=deployed.net.global_dim)
    return found


def _name_shapes(model, deployed):
    """Write the known sizes into the outputs' shapes (the exporter leaves some unnamed)."""
    count, net = deployed.max_keypoints, deployed.net
    known = {
        'keypoints': (1, count, 2),
        'scores': (1, count),
        'descriptors': (1, count, net.descriptor_dim),
        'global_descriptor': (1, net.global_dim),
    }
    for value in model.graph.output:
        dims = value.type.tensor_type.shape.dim
        if value.name in known:
            del dims[:]
            for size in known[value.name]:
                dims.add().dim_value = size
        else:
            dims[0].ClearField('dim_param')
            dims[0].dim_value = 1


def export_raw(net, output, size):
    """
    Write the layers alone, for tool chains of microcontrollers: no post-processing, one size, float32.

    :param net: network with ``maps``, see :class:`mt_training.models.raw.RawNet`.
    :param output: path of the file; written beside and renamed, so it is whole or absent.
    :param size: (width, height) of the input in pixels.
    :return: dict output → mean absolute difference to PyTorch.
    :raises MtError: the network has no such form, or an output differs from PyTorch.
    """
    import onnx
    import onnxruntime

    check_size(size)
    raw = RawNet(net)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_suffix('.part.onnx')
    image = torch.rand(1, 3, size[1], size[0], generator=torch.Generator().manual_seed(0)) * 2 - 1
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            raw, (image,), str(partial), input_names=['image'], output_names=list(raw.names),
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        expected = raw(image)
    try:
        model = onnx.load(str(partial))
        fuse_padding(model)
        model.doc_string = raw.__doc__.strip()
        onnx.save(model, str(partial))
        session = onnxruntime.InferenceSession(str(partial), providers=['CPUExecutionProvider'])
        found = session.run(None, {'image': image.numpy()})
        report = {
            name: float(np.abs(a.numpy() - b).mean())
            for name, a, b in zip(raw.names, expected, found, strict=True)
        }
        for name, value in report.items():
            if not value <= RAW_LIMIT:
                raise MtError(
                    f"the exported '{name}' differs from PyTorch by {value:.2g}; the file was not kept"
                )
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return report


def main(argv=None):
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(prog='export', description='Export a trained network to ONNX.')
    parser.add_argument('--checkpoint', required=True, help='file written by train')
    parser.add_argument('--output', required=True, help='ONNX file to write')
    parser.add_argument('--size', default='512x384', help='default input size, WIDTHxHEIGHT')
    parser.add_argument('--fixed', action='store_true', help='fix the input size in the graph')
    parser.add_argument(
        '--half', action='store_true', help='also write the float16 version that TensorRT 10 and 11 take'
    )
    parser.add_argument(
        '--raw', action='store_true', help='only the layers, no post-processing: for microcontrollers'
    )
    parser.add_argument('--image', help='image for the parity check')
    parser.add_argument('--weights', help='also write the weights for training, a .npz file')
    parser.add_argument('--accuracy', help='JSON file of measured numbers to keep in the metadata')
    args = parser.parse_args(argv)
    try:
        size = parse_size(args.size)
        accuracy = json.loads(Path(args.accuracy).read_text()) if args.accuracy else None
        if read_config(args.checkpoint)['architecture'].startswith('lightglue'):
            from mt_training.matcher.export import export_matcher, load_matcher

            config = read_config(args.checkpoint)
            net = load_matcher(args.checkpoint, config)
            report = export_matcher(net, config, args.output, accuracy)
            if args.weights:
                save_weights(net, args.weights)
            return _finish(args.output, report, args.half)
        net, config = load_net(args.checkpoint)
        if args.raw:
            return _finish(args.output, export_raw(net, args.output, size), False)
        image = None
        if args.image:
            import cv2

            from mt_training.data.sets import read_rgb

            image = cv2.resize(read_rgb(args.image), size, interpolation=cv2.INTER_AREA)
        report = export(net, config, args.output, accuracy, size, image, args.fixed)
        if args.weights:
            save_weights(net, args.weights)
        return _finish(args.output, report, args.half)
    except MtError as error:
        print(f'export: {error}', file=sys.stderr)
        return 1


def _finish(output, report, half):
    """Print the report of an exported file, make its float16 version where asked, return 0."""
    _print_report(output, report, 'PyTorch')
    if half:
        from mt_training.half import convert

        _print_report(*convert(output), 'float32')
    return 0


def _print_report(output, report, reference):
    print(f'{output} ({Path(output).stat().st_size / 1e6:.1f} MB), difference to {reference}:')
    for name, value in report.items():
        print(f'  {name:24s} {value:.2e}')


if __name__ == '__main__':
    sys.exit(main())
