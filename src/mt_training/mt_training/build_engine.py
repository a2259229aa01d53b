"""
Build the TensorRT engine of an exported model, on the machine that will run it.

::

    build_engine --model M.onnx                        into the cache that the nodes use
    build_engine --model M.onnx --output M.engine --input-size 512x384 --precision fp16

Beside the engine lies a ``.json`` with all it depends on: TensorRT, GPU, model, precision, input size. On
TensorRT 10 and 11 'fp16' takes M.fp16.onnx beside the model (``export --half`` writes it), and an 8-bit model
(``quantize --target tensorrt``) computes in 8 bits as it is. An engine that is there and fits is not built
again.
"""

import argparse
import importlib
import logging
import sys
import tempfile
from pathlib import Path

from mt_perception.errors import EngineError, MtError
from mt_perception.inference.contract import read_model
from mt_perception.inference.factory import PRECISIONS, create_engine, default_cache_dir
from mt_perception.inference.tensorrt_builder import strongly_typed
from mt_perception.inference.tensorrt_engine import cache_name, input_shapes, precision_source
from mt_training.evaluation.options import parse_size

SUFFIX = '.engine'


def build(
    model, output=None, cache_dir=None, input_size=None, precision='fp16', max_keypoints=512, logger=None
):
    """
    Build an engine, or find it in the cache.

    :param model: ONNX file under the model contract, perception or matcher.
    :param output: engine file to write, with a ``.json`` beside; None: into the cache.
    :param cache_dir: folder of engines; None: the one that the nodes use.
    :param input_size: (width, height) of a perception model's images; None: the model's own.
    :param precision: 'fp16' or 'fp32'.
    :param max_keypoints: matcher: number of keypoints per image.
    :param logger: has ``info`` and ``warning``; hears about progress.
    :return: (path of the engine, name of what runs, list of warnings).
    :raises MtError: no TensorRT or GPU here, or a model that cannot be built.
    """
    file = read_model(model)
    if output is None:
        folder = Path(cache_dir) if cache_dir else default_cache_dir()
        made, name, warnings = _start(file, folder, input_size, precision, max_keypoints, logger)
        if not made.is_file():
            raise EngineError(f"the engine could not be kept in '{folder}'; name another folder with --cache")
        return made, name, warnings
    output = Path(output)
    if output.suffix != SUFFIX:
        raise EngineError(f"--output '{output}' does not end in {SUFFIX}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix='.build_engine-') as folder:
        made, name, warnings = _start(file, Path(folder), input_size, precision, max_keypoints, logger)
        # the sidecar first: an engine is never without it
        made.with_suffix('.json').replace(output.with_suffix('.json'))
        made.replace(output)
    return output, name, warnings


def _start(model, folder, input_size, precision, max_keypoints, logger):
    """Start the engine once, which builds and tries it; return its path, its name and warnings."""
    with create_engine(
        model.path, 'tensorrt', input_size, precision, folder, logger=logger, max_keypoints=max_keypoints
    ) as engine:
        typed = strongly_typed(importlib.import_module('tensorrt'))
        source, used, _ = precision_source(model, precision, typed)
        shapes = input_shapes(model, engine.input_size, max_keypoints)
        path = folder / f'{cache_name(source, shapes, used)}{SUFFIX}'
        return path, engine.name, list(engine.warnings)


def main(argv=None):
    """Run the command; return 0, or 1 after a mistake of the user's."""
    parser = argparse.ArgumentParser(
        prog='build_engine', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model', required=True, metavar='M.onnx', help='exported model, perception or matcher'
    )
    parser.add_argument('--output', metavar=f'FILE{SUFFIX}', help='default: into the cache')
    parser.add_argument('--cache', metavar='DIR', help='folder of engines (default: that of the nodes)')
    parser.add_argument('--input-size', type=parse_size, metavar='WxH', help="default: the model's own")
    parser.add_argument('--precision', choices=PRECISIONS, default='fp16', help='default: %(default)s')
    parser.add_argument(
        '--max-keypoints', type=int, default=512, help='matcher: per image (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    try:
        path, name, warnings = build(
            args.model, args.output, args.cache, args.input_size, args.precision, args.max_keypoints,
            logging.getLogger('build_engine'),
        )  # fmt: skip
    except MtError as error:
        print(f'build_engine: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('build_engine: interrupted', file=sys.stderr)
        return 130
    for warning in warnings:
        print(f'note: {warning}')
    print(f'{path} ({path.stat().st_size / 1e6:.1f} MB): {name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
