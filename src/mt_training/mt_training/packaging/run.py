#!/usr/bin/env python3
"""
Run the models of this package: needs onnxruntime, numpy and opencv, nothing else.

    python3 run.py IMAGE … --output OUT      pictures: classes, depth, keypoints
    python3 run.py --benchmark               milliseconds of every model, in turns
    python3 run.py --check                   compare all files with SHA256SUMS
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Mistake(Exception):
    """What the user can mend; its text is one sentence."""


def models():
    """Return the ONNX files of the package, the default one first."""
    content = json.loads((HERE / 'package.json').read_text(encoding='utf-8'))
    return [HERE / 'models' / name for name in content['models']]


def check():
    """Compare all files with ``SHA256SUMS``; return the names of those that differ or are missing."""
    wrong = []
    for line in (HERE / 'SHA256SUMS').read_text(encoding='utf-8').splitlines():
        expected, name = line.split('  ', 1)
        path = HERE / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            wrong.append(name)
    return wrong


class Model:
    """
    An ONNX model under the model contract.

    :param path: the file. :param threads: CPU threads, 0 = one per core.
    """

    def __init__(self, path, threads=0):
        import onnxruntime

        if not Path(path).is_file():
            raise Mistake(f"there is no model '{path}'")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = [
            name
            for name in ('CUDAExecutionProvider', 'CPUExecutionProvider')
            if name in onnxruntime.get_available_providers()
        ]
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
            properties = self.session.get_modelmeta().custom_metadata_map
            self.metadata = json.loads(properties['mt_model'])
        except Exception as error:
            reason = (str(error).splitlines() or [''])[0]
            raise Mistake(f"'{path}' cannot be run: {reason}") from None
        self.name = Path(path).name
        self.size = tuple(self.metadata['input_size'])
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, image):
        """Run on an RGB image [H,W,3] uint8 of the model's size; return {output: array}."""
        return dict(zip(self.outputs, self.session.run(None, {'image': image[None]})))


def pictures(image, found, metadata):
    """
    Draw the results over an image.

    :param image: [H,W,3] uint8 RGB. :param found: {output: array} of the model's size.
    :return: {task: [H,W,3] uint8 RGB}.
    """
    import cv2
    import numpy as np

    size, out = (image.shape[1], image.shape[0]), {}
    if 'segmentation' in found:
        table = np.zeros((256, 3), np.uint8)
        table[: len(metadata['class_colors'])] = metadata['class_colors']
        classes = cv2.resize(found['segmentation'][0], size, interpolation=cv2.INTER_NEAREST)
        out['segmentation'] = cv2.addWeighted(image, 0.45, table[classes], 0.55, 0)
    if 'depth' in found:
        depth = found['depth'][0]
        near, far = np.percentile(depth, (2, 98))
        level = (1 / depth - 1 / far) / max(1 / near - 1 / far, 1e-9)
        level = np.rint(np.clip(level, 0, 1) * 255).astype(np.uint8)
        colors = cv2.applyColorMap(cv2.resize(level, size), cv2.COLORMAP_TURBO)[..., ::-1]
        out['depth'] = np.ascontiguousarray(colors)
    if 'keypoints' in found:
        out['keypoints'] = drawn = image.copy()
        height, width = found['shape']
        scale = np.array([size[0] / width, size[1] / height])
        points = found['keypoints'][0][found['scores'][0] > 0]
        for x, y in (points + 0.5) * scale - 0.5:
            cv2.circle(drawn, (round(float(x)), round(float(y))), 2, (40, 220, 60), -1, cv2.LINE_AA)
    return out


def show(model, files, output):
    """Write the pictures of every image file to a folder."""
    import cv2
    import numpy as np

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    for file in files:
        data = np.fromfile(file, np.uint8) if Path(file).is_file() else np.zeros(0, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is None:
            raise Mistake(f"'{file}' is missing or no image")
        image = np.ascontiguousarray(image[..., ::-1])
        small = image.shape[0] * image.shape[1] > model.size[0] * model.size[1]
        method = cv2.INTER_AREA if small else cv2.INTER_LINEAR
        found = model.run(cv2.resize(image, model.size, interpolation=method))
        found['shape'] = (model.size[1], model.size[0])
        for task, picture in pictures(image, found, model.metadata).items():
            path = output / f'{Path(file).stem}_{task}.png'
            part = path.with_name(f'.{path.stem}.{os.getpid()}.part.png')
            cv2.imwrite(str(part), picture[..., ::-1])
            os.replace(part, path)
            print(path)


def benchmark(opened, rounds):
    """Time models in turns on the same noise; return {name: (median, 95th percentile) milliseconds}."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = {m.size: rng.integers(0, 255, (m.size[1], m.size[0], 3), np.uint8) for m in opened}
    times = {model.name: [] for model in opened}
    for index in range(rounds + 2):
        for model in opened if index % 2 else reversed(opened):
            start = time.perf_counter()
            model.run(images[model.size])
            if index >= 2:  # the first ones warm up
                times[model.name].append((time.perf_counter() - start) * 1e3)
    return {name: tuple(np.percentile(values, (50, 95))) for name, values in times.items()}


def main(argv=None):
    """Run the command; return 0, or 1 after a mistake of the user's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', nargs='*', help='image files')
    parser.add_argument('--model', help='one of models/ (default: the first of package.json)')
    parser.add_argument('--output', default='out', help='folder for pictures')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads, 0 = one per core')
    parser.add_argument('--benchmark', action='store_true', help='time all models')
    parser.add_argument('--rounds', type=int, default=30, help='timed runs of each model')
    parser.add_argument('--check', action='store_true', help='compare all files with SHA256SUMS')
    args = parser.parse_args(argv)
    try:
        if args.check:
            wrong = check()
            if wrong:
                raise Mistake(f'these files are damaged or missing: {", ".join(wrong)}')
            print('all files are as they were packed')
        elif args.benchmark:
            opened = [Model(path, args.threads) for path in models()]
            found = benchmark(opened, max(args.rounds, 1))
            first = next(iter(found.values()))[0]
            for name, (median, slow) in found.items():
                print(f'{name:32s} {median:8.1f} ms  p95 {slow:8.1f} ms  ratio {median / first:.2f}')
        elif args.images:
            path = HERE / 'models' / args.model if args.model else models()[0]
            show(Model(path, args.threads), args.images, args.output)
        else:
            raise Mistake('name an image, or say --benchmark or --check')
    except Mistake as mistake:
        print(f'run.py: {mistake}', file=sys.stderr)
        return 1
    except ImportError as error:
        print(f'run.py: {error}; pip install -r requirements.txt', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
