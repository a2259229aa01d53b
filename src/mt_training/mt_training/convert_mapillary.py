"""
Convert Mapillary Vistas to COCO's panoptic format.

``./mt run mt_training convert_mapillary --root mapillary --output mapillary_coco``

Writes what the data set ``coco_panoptic`` and other tools of that format read::

    annotations/panoptic_training.json   annotations/panoptic_training/NAME.png   training/NAME.jpg

A category's id is 1 + the class id in Mapillary's configuration; classes it does not evaluate are left out,
their pixels are 0. A segment's id is 256 × (category id) + number of the object. An interrupted run goes on.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mt_perception.commands import exit_status
from mt_perception.errors import EvaluationError
from mt_perception.writing import whole_file, write_bytes
from mt_training.data.datasets_file import Datasets, add_datasets_option
from mt_training.data.readers.mapillary import SPLITS, VERSIONS, Mapillary

IMAGES = ('link', 'copy', 'none')


def categories(classes):
    """Return COCO's categories of the classes of :func:`mt_training.data.readers.mapillary.read_config`."""
    return [
        {
            'id': class_id + 1,
            'name': entry['name'],
            'supercategory': entry['name'].split('--')[0],
            'isthing': int(entry['instances']),
            'color': entry['color'],
        }
        for class_id, entry in enumerate(classes)
        if entry['evaluate']
    ]


def segments_info(ids):
    """
    Describe the segments of one image.

    :param ids: [H,W] int32 of :meth:`Mapillary.panoptic`, 0 = none.
    :return: list of dicts id, category_id, area (pixels), bbox [x, y, width, height], iscrowd.
    """
    from scipy.ndimage import find_objects

    values, inverse = np.unique(ids, return_inverse=True)
    inverse = inverse.reshape(ids.shape).astype(np.int32)
    areas = np.bincount(inverse.ravel(), minlength=len(values))
    out = []
    for value, area, (rows, columns) in zip(values.tolist(), areas.tolist(), find_objects(inverse + 1)):
        if value:
            box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
            out.append({'id': value, 'category_id': value // 256, 'area': area, 'bbox': box, 'iscrowd': 0})
    return out


def encode_ids(ids):
    """Turn segment ids [H,W] int32 into the colours of COCO's masks, [H,W,3] uint8 BGR."""
    return np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=2).astype(np.uint8)


def convert(frames, output, images='link', progress=True):
    """
    Convert one split.

    :param frames: :class:`Mapillary` opened with ``panoptic``.
    :param output: folder.
    :param images: 'link' (symbolic links), 'copy' or 'none'.
    :return: path of the JSON, which is written last.
    :raises EvaluationError: labels that cannot be read, or a split without labels.
    """
    if not frames.instances:
        raise EvaluationError(f"the split {frames.split} of '{frames.root}' has no labels to convert")
    output, split = Path(output), frames.split
    masks = output / 'annotations' / f'panoptic_{split}'
    masks.mkdir(parents=True, exist_ok=True)
    content = {
        'info': {'description': f'Mapillary Vistas {frames.version} {split} in COCO panoptic format'},
        'licenses': [],
        'images': [],
        'annotations': [],
        'categories': categories(frames.classes),
    }
    for index in tqdm(range(len(frames)), desc=split, unit='image', disable=not progress or None):
        ids, _ = frames.panoptic(index)
        name, source = frames.name_of(index), frames.image_path(index)
        mask = masks / f'{name}.png'
        if not mask.is_file():
            write_bytes(mask, cv2.imencode('.png', encode_ids(ids))[1].tobytes())
        if images != 'none':
            place_image(source, output / split / source.name, images)
        height, width = ids.shape
        content['images'].append(
            {'id': index + 1, 'file_name': source.name, 'width': width, 'height': height}
        )
        content['annotations'].append(
            {'image_id': index + 1, 'file_name': mask.name, 'segments_info': segments_info(ids)}
        )
    path = output / 'annotations' / f'panoptic_{split}.json'
    write_bytes(path, json.dumps(content).encode())
    return path


def place_image(source, target, how):
    """Link or copy an image; one that is there already stays."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target, EvaluationError) as beside:
        if how == 'link':
            beside.symlink_to(source.resolve())
        else:
            shutil.copyfile(source, beside)


def main(argv=None):
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(
        prog='convert_mapillary', description="Convert Mapillary Vistas to COCO's panoptic format."
    )
    parser.add_argument('--root', metavar='DIR', help='folder of Mapillary Vistas (default: datasets.yaml)')
    add_datasets_option(parser)
    parser.add_argument('--output', metavar='OUT', required=True, help='folder to write')
    parser.add_argument(
        '--split', nargs='+', choices=sorted(SPLITS), default=['training', 'validation'], metavar='SPLIT',
        help='default: training validation',
    )  # fmt: skip
    parser.add_argument('--version', choices=VERSIONS, help='default: the newest that is there')
    parser.add_argument(
        '--images', choices=IMAGES, default='link', help='how images get there (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    return exit_status('convert_mapillary', run, args, interrupted='interrupted; the same command goes on')


def run(args):
    """Convert the splits that the command line names."""
    root, version = args.root, args.version
    if root is None:
        source = Datasets(args.datasets).source('mapillary')
        root, version = source.root, version or source.options.get('version')
    for split in args.split:
        path = convert(Mapillary(root, split, version, panoptic=True), args.output, args.images)
        print(f'wrote {path}')


if __name__ == '__main__':
    sys.exit(main())
