"""
NYU Depth v2, its 1449 labelled images (Silberman et al., ECCV 2012).

Four layouts are read:

* ``nyu_depth_v2_labeled.mat`` (MATLAB 7.3, read with h5py), with ``splits.mat`` for train and test, and
  ``classMapping40.mat`` or ``class13Mapping.mat`` for the 40 or 13 classes beside it;
* the folder export of nyuv2-python-toolkit: ``image/SPLIT/00001.png``, ``seg40/SPLIT`` or ``seg13/SPLIT``
  (class ids from 0, 255 = unlabelled), ``depth/SPLIT`` (16-bit millimetres);
* the arrays of MTAN: ``SPLIT/image/0.npy``, ``SPLIT/label/0.npy`` (13 classes, −1 = unlabelled),
  ``SPLIT/depth/0.npy`` (metres);
* depth only: ``SPLIT/SCENE/rgb_00045.jpg`` with ``SPLIT/SCENE/sync_depth_00045.png`` (16-bit millimetres),
  also below ``official_splits/``.
"""

import os

import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import read_array, read_class_ids, read_depth, read_rgb
from mt_training.data.readers.layout import check_pairs, files_by_key, find_file, open_root, split_folders
from mt_training.data.readers.palette import bit_colors
from mt_training.data.readers.sample import IGNORE_INDEX, FrameSet, Sample, check_ids, check_size

MAT = 'nyu_depth_v2_labeled.mat'
EXPECTED = (
    f'{MAT} with splits.mat and classMapping40.mat; image/SPLIT, seg40/SPLIT and depth/SPLIT; '
    'SPLIT/image/*.npy; '
    'or SPLIT/SCENE/rgb_*.jpg with sync_depth_*.png'
)
SIZE = (640, 480)
# camera_params.m of the set's toolbox: the colour camera
INTRINSICS = (518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
MILLIMETRES = 1000
CLASSES_13 = (
    'bed', 'books', 'ceiling', 'chair', 'floor', 'furniture', 'objects', 'picture', 'sofa', 'table', 'tv',
    'wall', 'window',
)  # fmt: skip
CLASSES_40 = (
    'wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window', 'bookshelf', 'picture',
    'counter', 'blinds', 'desk', 'shelves', 'curtain', 'dresser', 'pillow', 'mirror', 'floor mat', 'clothes',
    'ceiling', 'books', 'refrigerator', 'television', 'paper', 'towel', 'shower curtain', 'box', 'whiteboard',
    'person', 'night stand', 'toilet', 'sink', 'lamp', 'bathtub', 'bag', 'other structure', 'other furniture',
    'other prop',
)  # fmt: skip
NAMES = {13: CLASSES_13, 40: CLASSES_40}
SPLITS = ('train', 'test', 'val', 'all')


def open_nyuv2(root, split='train', classes=None, raw_depth=False):
    """
    Open NYUv2 in whichever layout ``root`` holds.

    :param split: 'train' (795 images) or 'test' (654; 'val' means the same), of the .mat also 'all'.
    :param classes: 40 or 13; None: what is there, 40 first. Of the .mat also a list out of its 894 names.
    :param raw_depth: of the .mat: depth as measured instead of the one with filled holes.
    :return: :class:`FrameSet`.
    :raises EvaluationError: no known layout, or files are missing.
    """
    root = open_root(root, 'NYUv2', EXPECTED)
    if split not in SPLITS:
        raise EvaluationError(f"NYUv2 has no split '{split}'; it has train, test and, of the .mat, all")
    if (root / MAT).is_file():
        return NyuMat(root, split, classes, raw_depth)
    names = [split] + {'test': ['val'], 'val': ['test']}.get(split, [])
    for name in names:
        if (root / 'image' / name).is_dir():
            return NyuFolders(root, name, classes)
        if (root / name / 'image').is_dir():
            return NyuArrays(root / name)
        for folder in (root / name, root / 'official_splits' / name):
            if folder.is_dir() and files_by_key(folder, '.png'):
                return NyuDepth(folder)
    raise EvaluationError(
        f"NYUv2 folder '{root}' has no split '{split}'"
        + split_folders(root, ['image/*', 'official_splits/*'])
        + f'; expected there: {EXPECTED}'
    )


def camera_of(image):
    """Return the set's colour camera for an image of any size."""
    camera = Camera.from_focal(*SIZE, *INTRINSICS)
    size = (image.shape[1], image.shape[0])
    return camera if size == SIZE else camera.scaled(*size)


class NyuFrames(FrameSet):
    """What the layouts share: names, classes, limits."""

    depth_limits = (0.1, 10.0)
    provides = ('segmentation', 'depth')
    names = ()

    def use_classes(self, names):
        """Set the class names."""
        self.class_names, self.class_colors = tuple(names), bit_colors(len(names))

    def __len__(self):
        """Return the number of images."""
        return len(self.names)

    def name_of(self, index):
        """Return the name of sample ``index``."""
        return self.names[index]


class NyuMat(NyuFrames):
    """The labelled .mat; arguments as :func:`open_nyuv2`."""

    def __init__(self, root, split='train', classes=None, raw_depth=False):
        try:
            import h5py
        except ImportError:
            raise EvaluationError(
                f"'{root / MAT}' is a MATLAB 7.3 file, which takes h5py: pip install h5py, or export it "
                'to folders'
            ) from None
        self._h5py, self.path = h5py, root / MAT
        self._file, self._process = None, None
        self.depth_key = 'rawDepths' if raw_depth else 'depths'
        file = self._open()
        count = file['images'].shape[0]
        self.numbers = self._numbers(root, split, count)
        self.names = [f'{number + 1:05d}' for number in self.numbers]
        self.table = self._class_table(root, classes, file)

    def _open(self):
        """Return the open file; each process opens its own, for HDF5 does not survive a fork."""
        if self._file is None or self._process != os.getpid():
            try:
                self._file, self._process = self._h5py.File(self.path, 'r'), os.getpid()
            except OSError:
                raise EvaluationError(f"'{self.path}' is damaged or no MATLAB 7.3 file") from None
            missing = [k for k in ('images', 'labels', 'names', self.depth_key) if k not in self._file]
            if missing:
                raise EvaluationError(f"'{self.path}' has no variable {', '.join(missing)}")
        return self._file

    def __getstate__(self):
        return {**self.__dict__, '_file': None, '_h5py': None}

    def __setstate__(self, state):
        import h5py

        self.__dict__.update(state, _h5py=h5py)

    @staticmethod
    def _numbers(root, split, count):
        if split == 'all':
            return list(range(count))
        content = read_mat(find_file(root, ['splits.mat'], 'NYUv2', EXPECTED))
        key = 'trainNdxs' if split == 'train' else 'testNdxs'
        if key not in content:
            raise EvaluationError(f"'{root / 'splits.mat'}' has no variable {key}")
        numbers = [int(n) - 1 for n in np.ravel(content[key])]
        if not numbers or min(numbers) < 0 or max(numbers) >= count:
            raise EvaluationError(
                f"'{root / 'splits.mat'}' names images that '{MAT}' does not have; it has {count}"
            )
        return numbers

    def _class_table(self, root, classes, file):
        """Return [895] uint8: label value → class id."""
        names = mat_strings(file, 'names')
        table = np.full(len(names) + 1, IGNORE_INDEX, np.uint8)
        if isinstance(classes, (list, tuple)):
            unknown = [c for c in classes if c not in names]
            if unknown:
                raise EvaluationError(
                    f"'{self.path}' has no class '{unknown[0]}' among its {len(names)} names"
                )
            for class_id, name in enumerate(classes):
                table[names.index(name) + 1] = class_id
            self.use_classes(classes)
            return table
        if classes not in (None, 13, 40):
            raise EvaluationError(f'NYUv2 has no {classes} classes; use 40, 13 or a list of names')
        hint = 'classMapping40.mat (and for 13 classes class13Mapping.mat) of the NYUv2 meta data beside it'
        to_40 = np.ravel(read_mat(find_file(root, ['classMapping40.mat'], 'NYUv2', hint)).get('mapClass', ()))
        if to_40.size != len(names) or to_40.min() < 0 or to_40.max() > 40:
            raise EvaluationError(
                f"'{root / 'classMapping40.mat'}' maps {to_40.size} classes, but '{MAT}' has {len(names)}"
            )
        if classes == 13:
            path = find_file(root, ['class13Mapping.mat', 'classMapping13.mat'], 'NYUv2', hint)
            try:
                to_13 = np.ravel(read_mat(path)['classMapping13'][0][0][0][0])
                mapped = np.where(to_40 > 0, to_13[np.maximum(to_40, 1) - 1], 0)
            except (KeyError, IndexError):
                raise EvaluationError(f"'{path}' has no classMapping13.labels13 for 40 classes") from None
        else:
            mapped = to_40
        table[1:] = np.where(mapped > 0, mapped - 1, IGNORE_INDEX)
        self.use_classes(NAMES[classes or 40])
        return table

    def __getitem__(self, index):
        """Read sample ``index``; MATLAB's arrays come transposed."""
        file, number = self._open(), self.numbers[index]
        image = np.ascontiguousarray(file['images'][number].transpose(2, 1, 0))
        values = file['labels'][number].T
        depth = np.ascontiguousarray(file[self.depth_key][number].T).astype(np.float32)
        depth[~(depth > 0)] = np.nan
        labels = np.ascontiguousarray(self.table[values])
        return Sample(self.names[index], image, labels, depth, camera_of(image), index=number)


class NyuFolders(NyuFrames):
    """``image/SPLIT``, ``seg40/SPLIT`` or ``seg13/SPLIT``, ``depth/SPLIT``."""

    def __init__(self, root, split, classes=None):
        wanted = (40, 13) if classes is None else (classes,)
        found = [c for c in wanted if c in NAMES and (root / f'seg{c}' / split).is_dir()]
        if classes is not None and not found:
            raise EvaluationError(f"NYUv2 folder '{root}' has no seg{classes}/{split}; expected: {EXPECTED}")
        self.images = files_by_key(root / 'image' / split, ('.png', '.jpg'))
        self.labels = files_by_key(root / f'seg{found[0]}' / split, '.png') if found else {}
        self.depth = files_by_key(root / 'depth' / split, '.png') if (root / 'depth' / split).is_dir() else {}
        for files, name in ((self.labels, 'seg'), (self.depth, 'depth')):
            if files:
                check_pairs(self.images, files, f'NYUv2 {split}', root, f'a png of each image in {name}')
        self.provides = ('segmentation',) * bool(self.labels) + ('depth',) * bool(self.depth)
        if not self.provides or not self.images:
            raise EvaluationError(
                f"'{root}' has images without seg40/, seg13/ or depth/; expected: {EXPECTED}"
            )
        self.use_classes(NAMES[found[0]] if found else ())
        self.names = list(self.images)

    def image_path(self, index):
        """Return the path of image ``index``."""
        return self.images[self.names[index]]

    def __getitem__(self, index):
        """Read sample ``index``."""
        name = self.names[index]
        sample = Sample(name, read_rgb(self.images[name]), index=index)
        sample.camera = camera_of(sample.image)
        if self.labels:
            sample.labels = read_class_ids(self.labels[name])
            check_size(sample.labels, sample.image, self.labels[name])
            count = len(self.class_names)
            expected = f'class ids here are 0–{count - 1}, {IGNORE_INDEX} = unlabelled'
            check_ids(sample.labels, count, self.labels[name], expected)
        if self.depth:
            sample.depth = read_depth(self.depth[name], MILLIMETRES)
            check_size(sample.depth, sample.image, self.depth[name])
        return sample


class NyuArrays(NyuFrames):
    """``image/0.npy``, ``label/0.npy``, ``depth/0.npy`` of one split."""

    def __init__(self, folder):
        self.images = files_by_key(folder / 'image', '.npy')
        self.labels = files_by_key(folder / 'label', '.npy')
        self.depth = files_by_key(folder / 'depth', '.npy')
        check_pairs(self.images, self.labels, 'NYUv2', folder, 'label/N.npy of each image/N.npy')
        check_pairs(self.images, self.depth, 'NYUv2', folder, 'depth/N.npy of each image/N.npy')
        self.names = sorted(self.images, key=lambda n: (len(n), n))
        self.use_classes(CLASSES_13)

    def __getitem__(self, index):
        """Read sample ``index``."""
        name = self.names[index]
        values = read_array(self.images[name])
        if values.ndim != 3 or values.shape[2] != 3:
            raise EvaluationError(
                f"'{self.images[name]}' has the shape {values.shape}, not [height, width, 3]"
            )
        if values.dtype != np.uint8:
            values = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
        labels = read_array(self.labels[name])
        check_size(labels, values, self.labels[name])
        labels = np.where((labels >= 0) & (labels < len(CLASSES_13)), labels, IGNORE_INDEX).astype(np.uint8)
        depth = np.squeeze(read_array(self.depth[name])).astype(np.float32)
        check_size(depth, values, self.depth[name])
        depth = np.where(depth > 0, depth, np.nan).astype(np.float32)
        return Sample(name, values, labels, depth, camera_of(values), index=index)


class NyuDepth(NyuFrames):
    """``SCENE/rgb_N.jpg`` with ``SCENE/sync_depth_N.png``."""

    provides = ('depth',)

    def __init__(self, folder):
        images = files_by_key(folder, ('.jpg', '.png'))
        self.images = {key: p for key, p in images.items() if p.name.startswith('rgb_')}
        self.depth = {
            f'{key.rpartition("/")[0]}/rgb_{p.stem[len("sync_depth_") :]}'.lstrip('/'): p
            for key, p in images.items()
            if p.name.startswith('sync_depth_')
        }
        check_pairs(self.images, self.depth, 'NYUv2', folder, 'sync_depth_N.png beside each rgb_N.jpg')
        self.names = list(self.images)

    def image_path(self, index):
        """Return the path of image ``index``."""
        return self.images[self.names[index]]

    def __getitem__(self, index):
        """Read sample ``index``."""
        name = self.names[index]
        image, depth = read_rgb(self.images[name]), read_depth(self.depth[name], MILLIMETRES)
        check_size(depth, image, self.depth[name])
        return Sample(name, image, None, depth, camera_of(image), index=index, group=name.rpartition('/')[0])


def read_mat(path):
    """Read a MATLAB file of version 5 to 7; EvaluationError when it is damaged."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise EvaluationError(f"'{path}' cannot be read as a MATLAB file: {error}") from None


def mat_strings(file, key):
    """Return the strings of a cell array in a MATLAB 7.3 file."""
    return [''.join(chr(c) for c in np.ravel(file[reference][()])) for reference in np.ravel(file[key][()])]
