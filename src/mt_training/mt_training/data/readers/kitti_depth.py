"""
KITTI depth completion and prediction (Uhrig et al., 3DV 2017).

Layout of data_depth_annotated.zip with KITTI raw::

    SPLIT/DRIVE/proj_depth/groundtruth/image_02/0000000005.png     (SPLIT: train, val)
    DATE/DRIVE/image_02/data/0000000005.png                       (also below raw/, kitti_raw/ or SPLIT/DRIVE)
    DATE/calib_cam_to_cam.txt

and of the selected validation images, split 'val_selection' (data_depth_selection.zip)::

    val_selection_cropped/image/DRIVE_image_0000000005_image_02.png
    val_selection_cropped/groundtruth_depth/DRIVE_groundtruth_depth_0000000005_image_02.png
    val_selection_cropped/intrinsics/DRIVE_image_0000000005_image_02.txt

Depth is 16-bit, metres × 256, 0 = unknown.
"""

from pathlib import Path

import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import CameraError, EvaluationError
from mt_training.data.readers.images import read_depth, read_rgb
from mt_training.data.readers.layout import check_pairs, files_by_key, find_folder, images_by_key, open_root
from mt_training.data.readers.sample import FrameSet, Sample, check_size

EXPECTED = (
    'train/DRIVE/proj_depth/groundtruth/image_02/*.png (data_depth_annotated) with raw images in '
    'DATE/DRIVE/image_02/data/ (here, in raw/ or as option raw), or val_selection_cropped/'
)
UNITS_PER_METRE = 256
SELECTION = ('val_selection_cropped', 'depth_selection/val_selection_cropped')
CAMERAS = ('image_02', 'image_03')


class KittiDepth(FrameSet):
    """
    One split of KITTI depth.

    :param root: folder of data_depth_annotated, or the one it is in.
    :param split: 'train', 'val' or 'val_selection'.
    :param raw: folder of KITTI raw (DATE/DRIVE/…) where it is elsewhere.
    :param cameras: which of 'image_02' (left colour) and 'image_03' (right colour).
    :raises EvaluationError: folders or images are missing.
    """

    provides = ('depth',)
    depth_limits = (0.001, 80.0)

    def __init__(self, root, split='train', raw=None, cameras=CAMERAS):
        root = open_root(root, 'KITTI depth', EXPECTED)
        self.items, self._calibrations = [], {}
        if split == 'val_selection':
            self._find_selection(root)
        elif split in ('train', 'val'):
            self._find_drives(root, split, raw, [cameras] if isinstance(cameras, str) else cameras)
        else:
            raise EvaluationError(f"KITTI depth has no split '{split}'; it has train, val and val_selection")

    def _find_selection(self, root):
        folder = find_folder(root, SELECTION, 'KITTI depth', EXPECTED)
        images = files_by_key(folder / 'image', '.png')
        depth = {
            key.replace('_groundtruth_depth_', '_image_'): path
            for key, path in files_by_key(folder / 'groundtruth_depth', '.png').items()
        }
        check_pairs(images, depth, 'KITTI depth', folder, 'groundtruth_depth/DRIVE_groundtruth_depth_….png')
        for key, path in images.items():
            text = folder / 'intrinsics' / f'{key}.txt'
            self.items.append((key, path, depth[key], text if text.is_file() else None, None))

    def _find_drives(self, root, split, raw, cameras):
        depth_root = find_folder(root, [f'data_depth_annotated/{split}', split], 'KITTI depth', EXPECTED)
        if raw is None:
            places = [root / 'raw', root / 'kitti_raw', root]
        else:
            places = [open_root(raw, 'KITTI raw', 'DATE/DRIVE/image_02/data/*.png')]
        drives = sorted(p for p in depth_root.iterdir() if (p / 'proj_depth').is_dir())
        if not drives:
            raise EvaluationError(f"'{depth_root}' holds no drive of KITTI; expected there: {EXPECTED}")
        for drive in drives:
            date = drive.name[:10]
            for camera in cameras:
                truth = files_by_key(drive / 'proj_depth' / 'groundtruth' / camera, '.png')
                if not truth:
                    continue
                folders = [place / date / drive.name / camera / 'data' for place in places]
                folders.append(drive / camera / 'data')
                folder = next((f for f in folders if f.is_dir()), None)
                if folder is None:
                    raise EvaluationError(
                        f"there are no images of '{drive.name}' for the depth in '{drive}': expected in "
                        f'{folders[0]} (KITTI raw, option raw)'
                    )
                images = images_by_key(folder, recursive=False)
                check_pairs(
                    dict.fromkeys(truth, folder), images, 'KITTI depth', folder, f'images in {folder}'
                )
                calibration = folder.parents[2] / 'calib_cam_to_cam.txt'
                for key, path in truth.items():
                    name = f'{drive.name}/{camera}/{key}'
                    self.items.append(
                        (name, images[key], path, calibration if calibration.is_file() else None, camera)
                    )
        if not self.items:
            raise EvaluationError(
                f"'{depth_root}' has no depth of {', '.join(cameras)}; expected there: {EXPECTED}"
            )

    def __len__(self):
        """Return the number of images with depth."""
        return len(self.items)

    def name_of(self, index):
        """Return 'DRIVE/image_02/0000000005' or the selection's file name."""
        return self.items[index][0]

    def image_path(self, index):
        """Return the path of image ``index``."""
        return self.items[index][1]

    def __getitem__(self, index):
        """Read sample ``index``."""
        name, image_path, depth_path, calibration, camera = self.items[index]
        image, depth = read_rgb(image_path), read_depth(depth_path, UNITS_PER_METRE)
        check_size(depth, image, depth_path)
        intrinsics = None
        if calibration is not None:
            key = (calibration, camera, image.shape[1::-1])
            if key not in self._calibrations:
                self._calibrations[key] = read_calibration(*key)
            intrinsics = self._calibrations[key]
        return Sample(name, image, None, depth, intrinsics, index=index, group=name.rpartition('/')[0])


def read_calibration(path, camera, size):
    """
    Read the camera of calib_cam_to_cam.txt (P_rect_02, P_rect_03) or of nine numbers.

    :param camera: 'image_02', 'image_03', or None for nine numbers.
    :param size: (width, height) of the image.
    :return: :class:`Camera`; its image is rectified.
    """
    try:
        text = Path(path).read_text()
        if camera is None:
            matrix = np.array(text.split(), np.float64).reshape(3, 3)
        else:
            key = f'P_rect_{camera[-2:]}:'
            line = next(line for line in text.splitlines() if line.startswith(key))
            matrix = np.array(line[len(key) :].split(), np.float64).reshape(3, 4)[:, :3]
        return Camera(*size, matrix)
    except (OSError, ValueError, StopIteration, CameraError):
        raise EvaluationError(
            f"'{path}' holds no usable calibration of {camera or 'a KITTI image'}"
        ) from None
