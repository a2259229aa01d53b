"""
COCO panoptic (Kirillov et al., CVPR 2019), and any set in its format.

Layout::

    annotations/panoptic_val2017.json       categories, images, annotations with segments_info
    annotations/panoptic_val2017/000000000139.png   colour = segment id, R + 256 G + 65536 B, 0 = none
    val2017/000000000139.jpg                or images/val2017/

The classes are the categories of the JSON in the order of their ids (133 of COCO).
"""

import json

import numpy as np

from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import read_colors, read_rgb
from mt_training.data.readers.layout import find_file, find_folder, open_root
from mt_training.data.readers.palette import bit_colors
from mt_training.data.readers.sample import IGNORE_INDEX, FrameSet, Sample, Segment, check_size

EXPECTED = (
    'annotations/panoptic_SPLIT.json, annotations/panoptic_SPLIT/*.png (or panoptic_SPLIT/) and '
    'SPLIT/*.jpg (or '
    'images/SPLIT/), SPLIT such as train2017'
)
SPLITS = {'train': ('train2017', 'train', 'training'), 'val': ('val2017', 'val', 'validation')}


class CocoPanoptic(FrameSet):
    """
    One split of a set in COCO's panoptic format.

    :param root: folder that holds annotations/ and the images.
    :param split: 'train' or 'val' (the 2017 names or plain ones), or the name in ``panoptic_NAME.json``.
    :raises EvaluationError: files are missing or the JSON is not in this format.
    """

    provides = ('segmentation', 'panoptic')

    def __init__(self, root, split='train'):
        root = open_root(root, 'COCO panoptic', EXPECTED)
        names = SPLITS.get(split, (split,))
        path = find_file(
            root,
            [f'{folder}panoptic_{name}.json' for name in names for folder in ('annotations/', '')],
            'COCO panoptic',
            EXPECTED,
        )
        part = path.stem[len('panoptic_') :]
        content = read_json(path)
        try:
            categories = sorted(content['categories'], key=lambda c: c['id'])
            self.class_of_category = {c['id']: i for i, c in enumerate(categories)}
            self.is_thing = [bool(c.get('isthing', 1)) for c in categories]
            self.class_names = tuple(c['name'] for c in categories)
            plain = bit_colors(len(categories))
            self.class_colors = tuple(tuple(c.get('color', plain[i])) for i, c in enumerate(categories))
            files = {image['id']: image['file_name'] for image in content['images']}
            self.annotations = sorted(content['annotations'], key=lambda a: a['file_name'])
            self.files = [files[a['image_id']] for a in self.annotations]
            for annotation in self.annotations:
                for segment in annotation['segments_info']:
                    segment['id'], self.class_of_category[segment['category_id']]
        except (KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(
                f"'{path}' is not in COCO's panoptic format: {error!r} is missing or unknown; it needs "
                'images, '
                'categories and annotations with file_name, image_id and segments_info'
            ) from None
        if not self.annotations:
            raise EvaluationError(f"'{path}' has no annotations")
        if len(self.class_names) > IGNORE_INDEX:
            raise EvaluationError(f"'{path}' has {len(self.class_names)} categories; at most 255 can be read")
        self.maps = find_folder(
            root, [f'annotations/panoptic_{part}', f'panoptic_{part}'], 'COCO panoptic', EXPECTED
        )
        self.images = find_folder(root, [f'images/{part}', part], 'COCO panoptic', EXPECTED)

    def __len__(self):
        """Return the number of annotated images."""
        return len(self.annotations)

    def name_of(self, index):
        """Return the annotation's file name without suffix."""
        return self.annotations[index]['file_name'].rsplit('.', 1)[0]

    def image_path(self, index):
        """Return the path of image ``index``."""
        return self.images / self.files[index]

    def __getitem__(self, index):
        """Read sample ``index``."""
        annotation = self.annotations[index]
        path = self.maps / annotation['file_name']
        image, ids = read_rgb(self.image_path(index)), read_colors(path)
        check_size(ids, image, path)
        segments = [self._segment(info) for info in annotation['segments_info']]
        table = {segment.id: segment.class_id for segment in segments}
        present, inverse = np.unique(ids, return_inverse=True)
        unknown = [int(i) for i in present if i != 0 and int(i) not in table]
        if unknown:
            raise EvaluationError(
                f"'{path}' has the segment {unknown[0]}, which its segments_info does not list; it holds "
                f'{len(table)} segments'
            )
        classes = np.array([table.get(int(i), IGNORE_INDEX) for i in present], np.uint8)
        labels = classes[inverse].reshape(ids.shape)
        return Sample(self.name_of(index), image, labels, segment_ids=ids, segments=segments, index=index)

    def _segment(self, info):
        class_id = self.class_of_category[info['category_id']]
        return Segment(int(info['id']), class_id, self.is_thing[class_id], bool(info.get('iscrowd', 0)))


def read_json(path):
    """Read a JSON file; EvaluationError when it is missing or damaged."""
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"'{path}' cannot be read: {str(error).splitlines()[0]}") from None
