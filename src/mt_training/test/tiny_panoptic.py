"""A miniature set in COCO's panoptic format and Mask2Former experiments that train on it in seconds."""

import json

import cv2
import numpy as np

from mt_training.train import load_config

SIZE = (64, 64)  # width, height
CATEGORIES = [
    {'id': 3, 'name': 'road', 'isthing': 0},
    {'id': 5, 'name': 'sky', 'isthing': 0},
    {'id': 9, 'name': 'car', 'isthing': 1},
]
CLASSES = [category['name'] for category in CATEGORIES]
TINY = {
    'classes': 3, 'encoder': 'swin_nano', 'embed_dim': 16, 'depths': [1, 1, 1, 1], 'width': 32, 'queries': 6,
    'pixel_layers': 1, 'decoder_layers': 2, 'heads': 4, 'feedforward': 32, 'pixel_feedforward': 32,
}  # fmt: skip


def panoptic_label(number):
    """Return segment ids [H,W]: sky 1, road 2, two cars 3 and 4 that touch; the second grows."""
    ids = np.full(SIZE[::-1], 1, np.int32)
    ids[32:] = 2
    ids[24:44, 8:28], ids[24:44, 28 : 48 + number] = 3, 4
    return ids


def write_coco(root, count=2):
    """Write ``count`` images for training and as many for validation; returns ``root``."""
    for split in ('train2017', 'val2017'):
        (root / split).mkdir(parents=True)
        masks = root / 'annotations' / f'panoptic_{split}'
        masks.mkdir(parents=True)
        images, annotations = [], []
        for number in range(count):
            ids, name = panoptic_label(number), f'{number:012d}'
            colors = np.array(
                [[0, 0, 0], [230, 120, 60], [90, 90, 90], [20, 30, 200], [20, 180, 60]], np.uint8
            )
            cv2.imwrite(str(root / split / f'{name}.jpg'), colors[ids])
            cv2.imwrite(str(masks / f'{name}.png'), np.stack([ids * 0, ids * 0, ids], 2).astype(np.uint8))
            images.append({'id': number, 'file_name': f'{name}.jpg', 'width': SIZE[0], 'height': SIZE[1]})
            info = [
                {'id': i, 'category_id': category, 'iscrowd': 0} for i, category in enumerate((5, 3, 9, 9), 1)
            ]
            annotations.append({'image_id': number, 'file_name': f'{name}.png', 'segments_info': info})
        content = {'images': images, 'annotations': annotations, 'categories': CATEGORIES}
        (root / 'annotations' / f'panoptic_{split}.json').write_text(json.dumps(content))
    return root


def tiny_mask2former(root, **changes):
    """Return an experiment on :func:`write_coco`'s set at ``root``: two epochs of two steps."""
    config = load_config('mask2former')
    config.update(
        model=dict(TINY), classes=CLASSES, things=['car'], size=list(SIZE), steps_per_epoch=2, epochs=2,
        validate_every=1, log_every=1, workers=0, progress='none', loggers=['csv'],
    )  # fmt: skip
    config['optimizer'] = {**config['optimizer'], 'warmup': 1}
    config['losses'] = {'masks': {'hungarian': {'points': 64}}}
    where = {'kind': 'dataset', 'dataset': 'coco_panoptic', 'root': str(root)}
    config['sets'] = {'coco': {**where, 'split': 'train', 'panoptic': True, 'batch': 1}}
    del where['kind']
    config['validation'] = {'coco': {**where, 'split': 'val', 'size': list(SIZE)}}
    config.update(changes)
    return config
