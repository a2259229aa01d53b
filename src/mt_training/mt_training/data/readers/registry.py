"""
All data sets by name: what train, evaluate, pseudo_label and the others open.

Three kinds: ``frames`` (images with labels, :class:`FrameSet`), ``planar`` (scenes with homographies,
list of :class:`PlanarScene`) and ``places`` (:class:`Places`). The images of the latter two can be opened as
frames without labels too.
"""

import importlib
import inspect
from dataclasses import dataclass

from mt_perception.errors import EvaluationError

READERS = 'mt_training.data.readers'


@dataclass(frozen=True)
class Entry:
    """
    One data set.

    :param name: what the user types.
    :param kind: 'frames', 'planar' or 'places'.
    :param opener: 'module:function' below mt_training.data.readers, called with the root and options.
    :param labels: what it has.
    :param title: its full name.
    :param needs_root: False where nothing has to be on disk.
    """

    name: str
    kind: str
    opener: str
    labels: tuple
    title: str
    needs_root: bool = True

    @property
    def function(self):
        """Import and return the opener."""
        module, function = self.opener.split(':')
        return getattr(importlib.import_module(f'{READERS}.{module}'), function)

    @property
    def options(self):
        """Names of the options, beside the root."""
        return list(inspect.signature(self.function).parameters)[1:]


_SEG, _DEPTH, _POSES = ('segmentation',), ('depth',), ('poses',)
ENTRIES = {
    entry.name: entry
    for entry in (
        Entry('cityscapes', 'frames', 'cityscapes:Cityscapes', _SEG + _DEPTH, 'Cityscapes'),
        Entry('camvid', 'frames', 'camvid:CamVid', _SEG, 'CamVid'),
        Entry('coco_stuff', 'frames', 'coco_stuff:CocoStuff', _SEG, 'COCO-Stuff'),
        Entry('coco_panoptic', 'frames', 'coco_panoptic:CocoPanoptic', (*_SEG, 'panoptic'), 'COCO panoptic'),
        Entry('mapillary', 'frames', 'mapillary:Mapillary', (*_SEG, 'panoptic'), 'Mapillary Vistas'),
        Entry('ade20k', 'frames', 'ade20k:Ade20k', _SEG, 'ADE20K, SceneParse150'),
        Entry(
            'labelled_folder', 'frames', 'labelled_folder:LabelledFolder', _SEG, 'your images and class ids'
        ),
        Entry('nyuv2', 'frames', 'nyuv2:open_nyuv2', _SEG + _DEPTH, 'NYU Depth v2'),
        Entry('kitti_depth', 'frames', 'kitti_depth:KittiDepth', _DEPTH, 'KITTI depth'),
        Entry('kitti_odometry', 'frames', 'sequence_sets:open_kitti_odometry', _POSES, 'KITTI odometry'),
        Entry('seven_scenes', 'frames', 'sequence_sets:open_seven_scenes', _DEPTH + _POSES, '7-Scenes'),
        Entry('tum_rgbd', 'frames', 'sequence_sets:open_tum_rgbd', _DEPTH + _POSES, 'TUM RGB-D'),
        Entry(
            'rendered',
            'frames',
            'sequence_sets:open_rendered',
            _SEG + _DEPTH + _POSES,
            "the project's rendered worlds",
            needs_root=False,
        ),
        Entry('sequence', 'frames', 'sequence_sets:open_any_sequence', _DEPTH + _POSES, 'any sequence'),
        Entry('images', 'frames', 'image_list:open_images', (), 'a folder of images'),
        Entry('hpatches', 'planar', 'hpatches:read_scenes', ('homographies',), 'HPatches sequences'),
        Entry('oxford_affine', 'planar', 'oxford_affine:read_scenes', ('homographies',), 'Oxford affine'),
        Entry('pittsburgh', 'places', 'utm_places:read_pittsburgh', ('positions',), 'Pittsburgh 250k, 30k'),
        Entry('tokyo247', 'places', 'utm_places:read_tokyo247', ('positions',), 'Tokyo 24/7'),
        Entry('corridor', 'places', 'places:read_corridor', ('places',), 'QUT corridor'),
        Entry('nordland', 'places', 'places:read_nordland', ('places',), 'Nordland'),
        Entry('pairs', 'places', 'places:read_pairs', ('places',), 'your query/ and ref/'),
    )
}


def names(kind=None, labels=None):
    """Names of the data sets of a kind that have certain labels; None: whichever."""
    return [
        name
        for name, entry in ENTRIES.items()
        if kind in (None, entry.kind) and (labels is None or labels in entry.labels)
    ]


def entry_of(name):
    """Return the :class:`Entry` of a name; EvaluationError that lists the names when it is none."""
    if name not in ENTRIES:
        raise EvaluationError(f"there is no data set '{name}'; known: {', '.join(ENTRIES)}")
    return ENTRIES[name]


def open_dataset(name, root=None, **options):
    """
    Open a data set.

    :param name: see ``ENTRIES``.
    :param root: its folder.
    :param options: those of its reader, such as ``split``.
    :return: :class:`FrameSet`, list of :class:`PlanarScene` or :class:`Places`, by its kind.
    :raises EvaluationError: unknown name or option, folders or files that are missing.
    """
    entry = entry_of(name)
    unknown = [key for key in options if key not in entry.options]
    if unknown:
        raise EvaluationError(
            f"data set '{name}' has no option '{unknown[0]}'; it has {', '.join(entry.options) or 'none'}"
        )
    if root is None and entry.needs_root:
        raise EvaluationError(
            f"it is not known where '{name}' ({entry.title}) is: name its folder, or enter it in "
            'datasets.yaml'
        )
    return entry.function(root, **options)


def open_frames(name, root=None, **options):
    """
    Open a data set as images with the labels there are; arguments as :func:`open_dataset`.

    :return: :class:`FrameSet`.
    """
    from mt_training.data.readers.image_list import images_of_places, images_of_scenes

    found = open_dataset(name, root, **options)
    kind = entry_of(name).kind
    if kind == 'planar':
        return images_of_scenes(found)
    return images_of_places(found) if kind == 'places' else found
