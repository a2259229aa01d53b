"""
Cityscapes (Cordts et al., CVPR 2016): 19 classes of the benchmark, and depth where there is a folder of it.

Layout, as the archives unpack::

    leftImg8bit/SPLIT/CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png
    gtFine/SPLIT/CITY/CITY_SEQUENCE_FRAME_gtFine_labelIds.png        (or …_labelTrainIds.png)
    disparity/SPLIT/CITY/CITY_SEQUENCE_FRAME_disparity.png           16-bit, d = (value − 1) / 256, 0 = none
    camera/SPLIT/CITY/CITY_SEQUENCE_FRAME_camera.json                baseline and intrinsics
    crestereo_depth/SPLIT/CITY/CITY_SEQUENCE_FRAME_crestereo_depth.png   (or .npy, float metres)

CREStereo's PNG are whole metres where they are 8-bit (what OpenCV writes from floats) and 1/256 m where they
are 16-bit, unless ``depth_units`` says otherwise.
"""

import json

import cv2
import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import CameraError, EvaluationError
from mt_training.data.readers.images import read_array, read_class_ids, read_depth, read_rgb, read_uint16
from mt_training.data.readers.layout import check_pairs, choose_split, files_by_key, find_folder, open_root
from mt_training.data.readers.sample import IGNORE_INDEX, NamedImages, Sample, check_ids, check_size

EXPECTED = (
    'leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png; for depth '
    'crestereo_depth/ or disparity/ with camera/'
)
SPLITS = ('train', 'val', 'test', 'train_extra')
IMAGE_SIZE = (2048, 1024)  # the calibration's
CLASSES = (  # (name, labelId, color) in the order of trainIds 0–18
    ('road', 7, (128, 64, 128)),
    ('sidewalk', 8, (244, 35, 232)),
    ('building', 11, (70, 70, 70)),
    ('wall', 12, (102, 102, 156)),
    ('fence', 13, (190, 153, 153)),
    ('pole', 17, (153, 153, 153)),
    ('traffic light', 19, (250, 170, 30)),
    ('traffic sign', 20, (220, 220, 0)),
    ('vegetation', 21, (107, 142, 35)),
    ('terrain', 22, (152, 251, 152)),
    ('sky', 23, (70, 130, 180)),
    ('person', 24, (220, 20, 60)),
    ('rider', 25, (255, 0, 0)),
    ('car', 26, (0, 0, 142)),
    ('truck', 27, (0, 0, 70)),
    ('bus', 28, (0, 60, 100)),
    ('train', 31, (0, 80, 100)),
    ('motorcycle', 32, (0, 0, 230)),
    ('bicycle', 33, (119, 11, 32)),
)
LAST_LABEL_ID = 33
TRAIN_ID = np.full(256, IGNORE_INDEX, np.uint8)
TRAIN_ID[[label_id for _, label_id, _ in CLASSES]] = np.arange(len(CLASSES))
DEPTH_SOURCES = ('auto', 'crestereo', 'disparity', 'none')
CRESTEREO = 'crestereo_depth'
CRESTEREO_SUFFIXES = tuple(
    f'{name}.{kind}' for name in ('_crestereo_depth', '_depth', '_leftImg8bit', '') for kind in ('png', 'npy')
)


class Cityscapes(NamedImages):
    """
    One split of Cityscapes.

    :param root: folder that holds leftImg8bit/ and gtFine/.
    :param split: 'train', 'val', 'test' (its label files are empty) or 'train_extra' (coarse labels).
    :param labels: 'gtFine', 'gtCoarse' or 'none'.
    :param depth: 'crestereo', 'disparity', 'none', or 'auto': the first of these that is there.
    :param depth_units: units per metre of CREStereo PNG; None: see the module.
    :raises EvaluationError: folders or files are missing.
    """

    class_names = tuple(name for name, _, _ in CLASSES)
    class_colors = tuple(color for _, _, color in CLASSES)
    depth_limits = (0.1, 80.0)

    def __init__(self, root, split='train', labels='gtFine', depth='auto', depth_units=None):
        root = open_root(root, 'Cityscapes', EXPECTED)
        choose_split(split, dict.fromkeys(SPLITS), 'Cityscapes')
        if labels not in ('gtFine', 'gtCoarse', 'none'):
            raise EvaluationError(f"Cityscapes has no labels '{labels}'; use gtFine, gtCoarse or none")
        self.depth_units = depth_units
        images = find_folder(root, [f'leftImg8bit/{split}'], 'Cityscapes', EXPECTED)
        super().__init__(files_by_key(images, '_leftImg8bit.png'))
        self.labels, self.encoding = {}, None
        if labels != 'none':
            self._find_labels(root, split, labels)
        self.cameras = files_by_key(root / 'camera' / split, '_camera.json')
        self.depth_source, self.depth_files = self._find_depth(root, split, depth)
        self.provides = ('segmentation',) * bool(self.labels) + ('depth',) * bool(self.depth_files)

    def _find_labels(self, root, split, kind):
        folder = find_folder(root, [f'{kind}/{split}'], 'Cityscapes', EXPECTED)
        for encoding in ('labelIds', 'labelTrainIds'):
            self.labels = files_by_key(folder, f'_{kind}_{encoding}.png')
            if self.labels:
                self.encoding = encoding
                break
        check_pairs(self.images, self.labels, f'Cityscapes {split}', folder, EXPECTED)

    def _find_depth(self, root, split, depth):
        if depth not in DEPTH_SOURCES:
            raise EvaluationError(f"Cityscapes has no depth '{depth}'; use one of {', '.join(DEPTH_SOURCES)}")
        wanted = {'auto': ('crestereo', 'disparity'), 'none': ()}.get(depth, (depth,))
        for source in wanted:
            folder = root / {'crestereo': CRESTEREO, 'disparity': 'disparity'}[source] / split
            suffixes = CRESTEREO_SUFFIXES if source == 'crestereo' else '_disparity.png'
            files = files_by_key(folder, suffixes)
            if not files and depth == 'auto':
                continue
            if not files:
                raise EvaluationError(f"'{folder}' holds no depth of Cityscapes; expected there: {EXPECTED}")
            check_pairs(self.images, files, f'Cityscapes {split}', folder, f'a file in {folder}')
            if source == 'disparity':
                where = f'{root / "camera" / split}/CITY/*_camera.json, which turns disparity into depth'
                check_pairs(self.images, self.cameras, f'Cityscapes {split}', folder, where)
            return source, files
        return None, {}

    def __getitem__(self, index):
        """Read sample ``index``."""
        name = self.names[index]
        image = read_rgb(self.images[name])
        labels = self._read_labels(name, image) if self.labels else None
        camera = baseline = None
        if name in self.cameras:
            camera, baseline = read_camera(self.cameras[name], image.shape[1::-1])
        depth = self._read_depth(name, image, camera, baseline) if self.depth_files else None
        return Sample(name, image, labels, depth, camera, index=index, group=name.split('/')[0])

    def _read_labels(self, name, image):
        path = self.labels[name]
        labels = read_class_ids(path)
        check_size(labels, image, path)
        last = LAST_LABEL_ID if self.encoding == 'labelIds' else len(CLASSES) - 1
        check_ids(labels, last + 1, path, f'{self.encoding} are 0–{last}, or {IGNORE_INDEX}')
        return TRAIN_ID[labels] if self.encoding == 'labelIds' else labels

    def _read_depth(self, name, image, camera, baseline):
        path = self.depth_files[name]
        if self.depth_source == 'disparity':
            depth = disparity_to_depth(
                read_uint16(path), camera.fx * IMAGE_SIZE[0] / image.shape[1], baseline
            )
        else:
            depth = read_crestereo(path, self.depth_units)
        if depth.shape != image.shape[:2]:  # depth of the full size beside smaller images, or the reverse
            depth = cv2.resize(depth, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return depth


def read_camera(path, size):
    """
    Read ``*_camera.json``.

    :param size: (width, height) of the image; the file is about 2048 × 1024.
    :return: (:class:`Camera` of the image, baseline in metres).
    """
    try:
        content = json.loads(path.read_text())
        baseline = float(content['extrinsic']['baseline'])
        fx, fy, cx, cy = (float(content['intrinsic'][k]) for k in ('fx', 'fy', 'u0', 'v0'))
        camera = Camera.from_focal(*IMAGE_SIZE, fx, fy, cx, cy)
    except (OSError, ValueError, KeyError, TypeError, CameraError):
        raise EvaluationError(
            f"'{path}' is no camera of Cityscapes: it needs extrinsic.baseline and intrinsic fx, fy, u0, v0"
        ) from None
    return (camera if tuple(size) == IMAGE_SIZE else camera.scaled(*size)), baseline


def disparity_to_depth(values, focal, baseline):
    """
    Turn Cityscapes' disparity into depth: d = (value − 1) / 256 pixels, Z = f b / d.

    :param values: [H,W] uint16, 0 = unknown.
    :param focal: pixels of the image the disparity was measured in.
    :param baseline: metres.
    :return: [H,W] float32 metres, NaN where unknown or at infinity.
    """
    disparity = (values.astype(np.float32) - 1) / 256
    known = disparity > 0
    depth = np.full(values.shape, np.nan, np.float32)
    depth[known] = np.float32(focal * baseline) / disparity[known]
    return depth


def read_crestereo(path, units=None):
    """
    Read a depth map of the CREStereo folder.

    :param units: units per metre of a PNG; None: 1 of 8-bit, 256 of 16-bit.
    :return: [H,W] float32 metres, NaN where zero, infinite or unknown.
    """
    if path.suffix == '.npy':
        depth = np.squeeze(read_array(path)).astype(np.float32)
        if depth.ndim != 2:
            raise EvaluationError(f"'{path}' has the shape {depth.shape}, not [height, width]")
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32)
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if raw is not None and raw.ndim == 2 and raw.dtype == np.uint8:
        depth = raw.astype(np.float32) / np.float32(1 if units is None else units)
        saturated = units is None and raw == 255
        return np.where((raw == 0) | saturated, np.nan, depth).astype(np.float32)
    return read_depth(path, 256 if units is None else units)
