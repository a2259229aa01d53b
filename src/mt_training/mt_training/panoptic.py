"""
Show and measure what a Mask2Former says about images: classes, and objects told apart.

``panoptic --checkpoint RUN/last.ckpt --dataset images --root DIR --output OUT``

For every image NAME: NAME_semantic.jpg and NAME_panoptic.jpg. ``panoptic.json`` and ``panoptic/NAME.png`` are
the segments in COCO's format. Where the data set knows segments (coco_panoptic, mapillary with ``--option
panoptic=true``) ``metrics.json`` has the panoptic quality of the split. Countable classes are those of the
experiment's key ``things``.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from mt_perception.errors import EvaluationError, MtError
from mt_perception.writing import write_bytes
from mt_training.convert_mapillary import categories, encode_ids, segments_info
from mt_training.data.class_map import class_table, named_map
from mt_training.data.datasets_file import Datasets
from mt_training.evaluation.options import add_dataset_options, add_output_option, open_dataset, parse_size
from mt_training.evaluation.output import OutputFolder
from mt_training.evaluation.pictures.figures import blend, color_classes
from mt_training.export import check_size, class_colors, load_net
from mt_training.metrics.panoptic import PanopticQuality
from mt_training.models.mask2former import panoptic

OBJECT = 256  # segment id = 256 · (class id + 1) + number of the object, as of a converted Mapillary
EDGE = (255, 255, 255)  # drawn between segments, RGB


def predict(net, image, size, things, min_score):
    """
    Label one image.

    :param image: [H,W,3] uint8 RGB. :param size: (width, height) of the network's input.
    :param things: class ids. :param min_score: see :func:`mt_training.models.mask2former.panoptic`.
    :return: (class ids [H,W] uint8, segment ids [H,W] int32 of ``OBJECT``, 0 = none).
    """
    shape = image.shape[:2]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        out = net(torch.from_numpy(resized).permute(2, 0, 1)[None].float())
        scores, masks = (
            torch.nn.functional.interpolate(x, size=shape, mode='bilinear', align_corners=False)
            for x in (out['segmentation'], out['query_masks'][-1])
        )
        numbers, segments = panoptic(out['query_classes'][-1][0], masks[0], things, min_score)
    ids = np.zeros(len(segments) + 1, np.int32)
    for segment in segments:
        ids[segment['id']] = OBJECT * (segment['class_id'] + 1) + segment['id'] * segment['is_thing']
    return scores[0].argmax(0).numpy().astype(np.uint8), ids[numbers]


def draw(image, ids, colors):
    """Paint segments [H,W] of :func:`predict` in the colours of their classes, objects a little apart."""
    classes = np.where(ids > 0, ids // OBJECT - 1, 255).astype(np.uint8)
    tint = ((ids % OBJECT) * 47 % 90 - 45) * (ids % OBJECT > 0)
    painted = np.clip(color_classes(classes, colors).astype(int) + tint[..., None], 0, 255)
    out = blend(image, painted)
    edge = np.zeros(ids.shape, bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    out[edge] = EDGE
    return out


def add_truth(quality, ids, sample, table):
    """Compare the segments of one image with those of its sample; ``table``: class of the set → here."""
    true, ignored = {}, set()
    for segment in sample.segments:
        class_id = int(table[segment.class_id])
        if segment.is_crowd or class_id == 255:
            ignored.add(segment.id)
        else:
            true[segment.id] = class_id
    predicted = {int(i): int(i) // OBJECT - 1 for i in np.unique(ids) if i}
    quality.add(ids, predicted, sample.segment_ids, true, ignored)


def write_picture(path, image):
    """Write an RGB picture as JPEG; it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def run(args):
    """
    Label all images of the options.

    :return: content of ``metrics.json``.
    :raises MtError: data, checkpoint or output that cannot be used.
    """
    net, config = load_net(args.checkpoint)
    if not net.queries:
        raise EvaluationError(f"'{config['architecture']}' predicts no masks; panoptic is for mask2former")
    size = args.size or tuple(config['size'])
    check_size(size)
    names, colors = config['classes'], class_colors(config['classes'])
    things = [names.index(name) for name in config.get('things', ()) if name in names]
    frames, output = open_dataset(args), OutputFolder(args.output)
    table, quality = None, PanopticQuality(len(names))
    if 'panoptic' in frames.provides:
        source = Datasets(args.datasets).source(args.dataset, args.root)
        ready = args.class_map and named_map(args.class_map, source.dataset)
        table = class_table(frames.class_names, names, ready, strict=False, what=f"'{args.dataset}'")
    content = {'images': [], 'annotations': [], 'categories': categories(
        [{'name': n, 'color': c, 'instances': i in things, 'evaluate': True}
         for i, (n, c) in enumerate(zip(names, colors, strict=True))]
    )}  # fmt: skip
    for index in range(len(frames)):
        sample = frames[index]
        classes, ids = predict(net, sample.image, size, things, args.min_score)
        semantic = blend(sample.image, color_classes(classes, colors))
        write_picture(output.path / f'{sample.name}_semantic.jpg', semantic)
        write_picture(output.path / f'{sample.name}_panoptic.jpg', draw(sample.image, ids, colors))
        mask = output.path / 'panoptic' / f'{sample.name}.png'
        mask.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(mask, cv2.imencode('.png', encode_ids(ids))[1].tobytes())
        height, width = ids.shape
        file = Path(frames.image_path(index) or sample.name).name
        content['images'].append({'id': index, 'file_name': file, 'width': width, 'height': height})
        content['annotations'].append(
            {'image_id': index, 'file_name': f'{sample.name}.png', 'segments_info': segments_info(ids)}
        )
        if table is not None and sample.segment_ids is not None:
            add_truth(quality, ids, sample, table)
    write_bytes(output.path / 'panoptic.json', json.dumps(content).encode())
    metrics = {'task': 'panoptic', 'images': len(frames), 'input_size': list(size)}
    if table is not None:
        result = quality.result()
        metrics.update({**result, 'per_class': dict(zip(names, result['per_class'], strict=True))})
    output.write_metrics(metrics)
    return metrics


def main(argv=None):
    """Parse the command line and label."""
    parser = argparse.ArgumentParser(
        prog='panoptic', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', required=True, help='file written by train')
    add_dataset_options(parser, ['images', 'coco_panoptic', 'mapillary'])
    parser.add_argument('--split', help="part of the data set (default: val, or the data set's own)")
    parser.add_argument(
        '--class-map', help='ready class map of a set with other classes, such as cityscapes19'
    )
    parser.add_argument('--size', type=parse_size, metavar='WxH', help='input (default: as trained)')
    parser.add_argument(
        '--min-score', type=float, default=0.8, help='queries less sure are left out (default: %(default)s)'
    )
    add_output_option(parser, 'panoptic')
    args = parser.parse_args(argv)
    try:
        metrics = run(args)
    except MtError as error:
        print(f'panoptic: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('panoptic: interrupted', file=sys.stderr)
        return 130
    if 'pq' in metrics:
        print(f'PQ {metrics["pq"]:.3f}   SQ {metrics["sq"]:.3f}   RQ {metrics["rq"]:.3f}')
    print(f'{metrics["images"]} images; results in {args.output}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
