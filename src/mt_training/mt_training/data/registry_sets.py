"""
Sets of kind ``dataset``: any data set of the registry, by its name in ``datasets.yaml``.

``configs/example_datasets.yaml`` explains every key of their sections.
"""

import numpy as np

from mt_perception.errors import MtError
from mt_training.data.class_map import class_table, named_map
from mt_training.data.frames import cached_frames
from mt_training.data.labelled_views import DEFAULTS, LabelledViews
from mt_training.data.pairs import RgbdPairs
from mt_training.data.place_views import PlaceViews
from mt_training.data.readers.pseudo_labels import WithPseudoLabels
from mt_training.data.readers.sample import Part, take
from mt_training.data.teacher_keypoints import cache_path, label_frames, label_images, load_keypoints
from mt_training.data.validation import ValidationFrames

SOURCE_KEYS = ('dataset', 'root', 'split', 'options', 'frames', 'class_map')
PSEUDO_KEYS = ('pseudo_labels', 'min_confidence', 'relative_depth')
PLACE_KEYS = ('crop', 'positive_m', 'negative_m')
KEYS = {
    *SOURCE_KEYS,
    *PSEUDO_KEYS,
    *PLACE_KEYS,
    *DEFAULTS,
    *('kind', 'batch', 'teacher_every', 'neighbours', 'pairs', 'width', 'size'),
}
VALIDATION_KEYS = (*SOURCE_KEYS, 'size', 'tasks')
PAIRS = ('views', 'rgbd')


def build_set(builder, section):
    """
    Make the sampler of a section.

    :param builder: :class:`mt_training.data.sets.SetBuilder`.
    :return: :class:`LabelledViews`, :class:`RgbdPairs` (``pairs: rgbd``) or, of sets of places,
        :class:`PlaceViews`.
    :raises MtError: unknown keys or names, classes that do not fit, folders or files that are missing.
    """
    unknown = sorted(set(section) - KEYS)
    if unknown:
        raise MtError(f"a set of kind 'dataset' has no key '{unknown[0]}'; it has {', '.join(sorted(KEYS))}")
    if 'dataset' not in section:
        raise MtError("a set of kind 'dataset' names it with the key dataset")
    name = section['dataset']
    if builder.datasets.kind(name) == 'places':
        places = builder.datasets.open(name, section.get('root'), **reader_options(section))
        own = {key: section[key] for key in PLACE_KEYS if key in section}
        return PlaceViews(places, section.get('size', builder.size), **own)
    frames = open_section(builder, section)
    if section.get('pseudo_labels'):
        confidence, relative = section.get('min_confidence', 0.5), section.get('relative_depth', False)
        frames = WithPseudoLabels(frames, section['pseudo_labels'], confidence, relative)
    table = table_of(builder, frames, section)
    pairs = section.get('pairs', 'views')
    if pairs not in PAIRS:
        raise MtError(f"pairs of a set are {' or '.join(PAIRS)}, not '{pairs}'")
    if pairs == 'rgbd':
        return rgbd_pairs(builder, frames, table, section)
    own = {key: section[key] for key in DEFAULTS if key in section}
    keypoints = teacher_keypoints(builder, frames, section.get('teacher_every', 0))
    return LabelledViews(frames, builder.size, builder.focal, table, builder.sky, keypoints, **own)


def build_validation(builder, section):
    """
    Return the images for watching a run that a section with the key ``dataset`` describes.

    :param section: ``dataset``, ``size`` [width, height] and optionally root, split, options, frames,
        class_map, tasks.
    :return: :class:`ValidationFrames`.
    """
    unknown = [key for key in section if key not in VALIDATION_KEYS]
    if unknown or 'size' not in section:
        raise MtError(
            f'a validation set has the keys {", ".join(VALIDATION_KEYS)}, of which size is needed'
            + (f", and no '{unknown[0]}'" if unknown else '')
        )
    frames = open_section(builder, section)
    table = table_of(builder, frames, section)
    return ValidationFrames(frames, section['size'], builder.focal, table, section.get('tasks'))


def reader_options(section):
    """Return the options of a section's reader; ``split`` has a key of its own."""
    options = dict(section.get('options') or {})
    if 'split' in section:
        options['split'] = section['split']
    return options


def open_section(builder, section):
    """Open the frames of a section."""
    options = reader_options(section)
    frames = builder.datasets.open_frames(section['dataset'], section.get('root'), **options)
    return take(frames, section.get('frames'))


def table_of(builder, frames, section):
    """Return [256] uint8, the set's class ids to the experiment's, or None without classes."""
    name, class_map = section['dataset'], section.get('class_map')
    if not frames.class_names or builder.classes is None:
        if frames.class_names and class_map:
            raise MtError(f"the experiment names no classes, so '{name}' cannot have a class_map")
        return None
    strict = not isinstance(class_map, str)
    if not strict:
        source = builder.datasets.sources.get(name)
        class_map = named_map(class_map, name if source is None else source.dataset)
    return class_table(frames.class_names, builder.classes, class_map, strict, f"'{name}'")


def rgbd_pairs(builder, frames, table, section):
    """Return :class:`RgbdPairs` of frames with depth and poses, kept in memory and in the cache."""
    name = section['dataset']
    if not {'depth', 'poses'} <= set(frames.provides):
        raise MtError(
            f"pairs: rgbd needs depth and poses; '{name}' has {', '.join(frames.provides) or 'no labels'}"
        )
    groups = {}
    for i in range(len(frames)):
        groups.setdefault(frames.name_of(i).rpartition('/')[0], []).append(i)
    source = builder.datasets.source(name, section.get('root'))
    chosen = {key: section[key] for key in (*SOURCE_KEYS, *PSEUDO_KEYS) if key in section}
    key = f'{source} {chosen}'
    kept = []
    for group, indices in groups.items():
        kept += cached_frames(
            f'{key} {group}',
            lambda indices=indices: Part(frames, indices),
            range(len(indices)),
            builder.cache,
            section.get('width', 512),
        )
    for frame in kept:
        if frame['labels'] is not None:
            none = np.full_like(frame['labels'], 255)
            frame['labels'] = none if table is None else table[frame['labels']]
    every = section.get('teacher_every', 0)
    if every:
        label_frames(key, kept[::every], builder.teacher, builder.cache / 'teacher')
    scale, roll = tuple(section.get('scale', (0.85, 1.5))), section.get('roll', 0.35)
    gap = section.get('gap', 20)
    flip = section.get('flip', False)
    return RgbdPairs(kept, builder.size, builder.focal, gap, scale, roll, builder.sky, flip)


def teacher_keypoints(builder, frames, every):
    """Return a function index → (xy, scores) of the keypoint teacher, or None without one."""
    if not every:
        return None
    paths = [frames.image_path(i) for i in range(len(frames))]
    folder = builder.cache / 'teacher'
    label_images([p for p in paths[::every] if p is not None], builder.teacher, folder, max_size=800)

    def keypoints(index):
        path = paths[index]
        if path is None or not cache_path(folder, path).is_file():
            return None
        return load_keypoints(folder, path)

    return keypoints
