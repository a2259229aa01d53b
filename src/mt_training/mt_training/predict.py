"""
Show what a model says: an image, a folder, a video or any sequence in, pictures out.

::

    predict street.jpg --output out
    predict DIR --model M.onnx --tasks segmentation depth --output out
    predict drive.mp4 --output out                                          one video, side by side

For every image NAME: NAME_segmentation.png (with the classes), NAME_depth.png (with a scale),
NAME_keypoints.png; ``--raw`` adds NAME.npz with the arrays. A video gives OUT/NAME.mp4. A run that was
stopped goes on with the same command: pictures that are there are not made again.
"""

import argparse
import os
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mt_perception.errors import EvaluationError, MtError
from mt_perception.inference.contract import TASKS
from mt_perception.perception import visualize
from mt_perception.sequences import open_sequence
from mt_perception.sequences.calibration import folder_camera
from mt_perception.sequences.video import SUFFIXES as VIDEOS
from mt_training.data.readers.images import IMAGE_SUFFIXES, image_files, read_rgb
from mt_training.evaluation.options import add_model_options, open_pipeline, parse_range
from mt_training.evaluation.output import OutputFolder

PICTURES = ('segmentation', 'depth', 'keypoints')  # tasks that have one


class Images:
    """
    Image files under their own names.

    :param paths: list of files; calibration beside the first counts for all of its size.
    """

    def __init__(self, paths):
        self.paths = [Path(path) for path in paths]

    def __len__(self):
        """Return the number of images."""
        return len(self.paths)

    def name_of(self, index):
        """Return the name of image ``index``."""
        return self.paths[index].stem

    def read(self, index):
        """Return image ``index`` [H,W,3] uint8 RGB and its camera or None."""
        image = read_rgb(self.paths[index])
        return image, folder_camera(self.paths[index].parent, (image.shape[1], image.shape[0]))


class Frames:
    """
    Frames of a sequence under its name and their numbers.

    :param source: see :func:`mt_perception.sequences.open_sequence`.
    :param frames: part of it, 'A:B', or None.
    """

    def __init__(self, source, frames):
        self.sequence = open_sequence(source, frames)
        stamps = np.diff(self.sequence.stamps)
        self.rate = float(1 / np.median(stamps)) if len(stamps) else 10.0  # Hz

    def __len__(self):
        """Return the number of frames."""
        return len(self.sequence)

    def name_of(self, index):
        """Return the name of frame ``index``."""
        return f'{self.sequence.name}_{index:06d}'

    def read(self, index):
        """Return frame ``index`` [H,W,3] uint8 RGB and its camera or None."""
        frame = self.sequence[index]
        return frame.image, frame.camera


def open_source(source, frames=None):
    """
    Open what is to be shown.

    :param source: an image, a folder of images, a video, or a sequence.
    :param frames: part of it, 'A:B', or None.
    :return: :class:`Images` or :class:`Frames`.
    :raises MtError: nothing there that can be read.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        return Images([path])
    if path.is_dir() and not any(path.glob('frame-*.color.*')):
        if any(p.suffix.lower() in IMAGE_SUFFIXES for p in path.iterdir()):
            files = image_files(path)
            if frames:
                files = files[parse_range(frames)]
            return Images(files)
    return Frames(source, frames)


def draw(image, perception, metadata, limits=None):
    """
    Draw what a network says about an image.

    :param image: [H,W,3] uint8 RGB.
    :param perception: :class:`mt_perception.types.Perception` of it.
    :param metadata: of the model.
    :param limits: (nearest, farthest) metres of the depth's colours; None: from the image.
    :return: {task: [H+h,W,3] uint8 picture}.
    """
    out = {}
    if perception.segmentation is not None:
        painted = visualize.overlay_segmentation(image, perception.segmentation, metadata.color_table)
        out['segmentation'] = visualize.with_legend(painted, metadata, perception.segmentation)
    if perception.depth is not None:
        limits = limits or visualize.depth_range(perception.depth)
        size = (image.shape[1], image.shape[0])
        colors = cv2.resize(visualize.color_depth(perception.depth, limits), size)
        out['depth'] = visualize.with_depth_scale(colors, limits)
    if perception.keypoints is not None:
        out['keypoints'] = visualize.draw_keypoints(image, perception.keypoints)
    return out


def side_by_side(pictures, height):
    """Put pictures [·,W,3] beside each other, cut or padded to ``height``: [height,n·W,3] uint8."""
    parts = []
    for picture in pictures:
        padded = np.zeros((height, picture.shape[1], 3), np.uint8)
        rows = min(height, picture.shape[0])
        padded[:rows] = picture[:rows]
        parts.append(padded)
    return np.hstack(parts)


def raw_arrays(perception):
    """Return {name: array} of a :class:`mt_perception.types.Perception`, for ``--raw``."""
    out = {
        name: getattr(perception, name)
        for name in ('segmentation', 'segmentation_confidence', 'depth', 'global_descriptor')
        if getattr(perception, name) is not None
    }
    if perception.keypoints is not None:
        points = perception.keypoints
        out.update(keypoints=points.xy, scores=points.scores, descriptors=points.descriptors)
    return out


def write_images(source, pipeline, tasks, output, raw=False):
    """
    Write the pictures of every image that has none yet.

    :param output: :class:`mt_training.evaluation.output.OutputFolder`.
    :return: list of the milliseconds of the images that were run.
    """
    milliseconds = []
    for index in tqdm(range(len(source)), desc='predict', unit='image', disable=None):
        name = source.name_of(index)
        wanted = [output.path / f'{name}_{task}.png' for task in PICTURES if task in tasks]
        wanted += [output.path / f'{name}.npz'] if raw else []
        if wanted and all(path.is_file() for path in wanted):
            continue
        image, camera = source.read(index)
        perception = pipeline.process(image, camera, tasks)
        milliseconds.append(sum(perception.timings_ms.values()))
        for task, picture in draw(image, perception, pipeline.metadata).items():
            output.write_image(f'{name}_{task}.png', picture)
        if raw:
            output.write_arrays(f'{name}.npz', raw_arrays(perception))
    return milliseconds


def write_video(source, pipeline, tasks, output, name):
    """Write ``name``.mp4: the pictures of every frame side by side; return milliseconds as above."""
    path = output.path / f'{name}.mp4'
    part = path.with_name(f'.{name}.{os.getpid()}.part.mp4')
    milliseconds, writer, limits, height = [], None, None, 0
    try:
        for index in tqdm(range(len(source)), desc='predict', unit='frame', disable=None):
            image, camera = source.read(index)
            perception = pipeline.process(image, camera, tasks)
            milliseconds.append(sum(perception.timings_ms.values()))
            if limits is None and perception.depth is not None:
                limits = visualize.depth_range(
                    perception.depth
                )  # of the first frame: colours stay comparable
            pictures = list(draw(image, perception, pipeline.metadata, limits).values()) or [image]
            if writer is None:
                height = max(picture.shape[0] for picture in pictures) // 2 * 2
                width = sum(picture.shape[1] for picture in pictures) // 2 * 2
                writer = cv2.VideoWriter(
                    str(part), cv2.VideoWriter_fourcc(*'mp4v'), source.rate, (width, height)
                )
                if not writer.isOpened():
                    raise EvaluationError(f"OpenCV here cannot write the video '{path}'")
            frame = side_by_side(pictures, height)[:, :width]
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return milliseconds


def run(args):
    """
    Show one source after the other.

    :return: number of images that were run.
    :raises MtError: an input or a model that cannot be used.
    """
    sources = [(item, open_source(item, args.frames)) for item in args.inputs]
    pipeline = open_pipeline(args, None, args.keypoints, args.min_score)
    count = 0
    with pipeline.engine:
        tasks = tuple(args.tasks or pipeline.tasks)
        missing = [task for task in tasks if task not in pipeline.tasks]
        if missing:
            has = ', '.join(pipeline.tasks)
            raise EvaluationError(f'the model has no task {", ".join(missing)}; it has {has}')
        output = OutputFolder(args.output)
        for item, source in sources:
            video = Path(item).suffix.lower() in VIDEOS and not args.pictures
            if video and (output.path / f'{Path(item).stem}.mp4').is_file():
                print(f'{item}: its video is there already')
                continue
            if video:
                spent = write_video(source, pipeline, tasks, output, Path(item).stem)
            else:
                spent = write_images(source, pipeline, tasks, output, args.raw)
            count += len(spent)
            middle = f', {np.median(spent):.1f} ms each ({pipeline.engine.name})' if spent else ''
            print(f'{item}: {len(spent)} of {len(source)} images run now{middle}')
    print(f'results in {output.path}')
    return count


def build_parser():
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog='predict', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, folder, video, sequence')
    parser.add_argument('--output', default='out/predict', help='folder (default: %(default)s)')
    parser.add_argument('--tasks', nargs='+', choices=TASKS, help='default: all the model has')
    parser.add_argument('--frames', metavar='A:B', help='part of a folder, video or sequence')
    parser.add_argument('--pictures', action='store_true', help='of a video too: pictures of every frame')
    parser.add_argument('--raw', action='store_true', help='also write the arrays, NAME.npz')
    parser.add_argument('--keypoints', type=int, default=512, metavar='K', help='strongest to draw')
    parser.add_argument('--min-score', type=float, default=0.0, help='smallest score of a keypoint to draw')
    add_model_options(parser)
    return parser


def main(argv=None):
    """Run the command; return 0, or 1 after a mistake of the user's."""
    args = build_parser().parse_args(argv)
    try:
        run(args)
    except MtError as error:
        print(f'predict: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('predict: interrupted; the same command goes on', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
