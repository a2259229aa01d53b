"""Miniature copies of the data sets that the experiments use, in their real layout."""

import cv2
import numpy as np
import torch

from mt_training.models.mobilenet_v2 import MobileNetV2


def write_images(folder, count, size, rng, labels=None):
    """Write smooth random images (and class-id images) of ``size`` = (width, height)."""
    folder.mkdir(parents=True)
    for i in range(count):
        image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{i:04d}.png'), image)
        if labels is not None:
            labels.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(labels / f'{i:04d}.png'), image[:, :, 0] // 22)


def write_data(root):
    """Write every set and random encoder weights under ``root``."""
    rng = np.random.default_rng(0)
    for part in ('train', 'val'):
        write_images(root / 'camvid' / part / 'images', 3, (96, 80), rng, root / 'camvid' / part / 'labels')
    write_images(root / 'drive', 6, (120, 48), rng)
    for season in ('summer', 'winter'):
        write_images(root / season, 6, (64, 32), rng)
    kitchen = root / 'kitchen'
    kitchen.mkdir()
    texture = cv2.resize(
        rng.integers(0, 255, (60, 90, 3), np.uint8), (900, 600), interpolation=cv2.INTER_CUBIC
    )
    for i in range(6):
        pose = np.eye(4)
        pose[0, 3] = 0.02 * i
        x = round(525 * pose[0, 3] / 2)
        cv2.imwrite(str(kitchen / f'frame-{i:06d}.color.jpg'), texture[60:540, 50 + x : 690 + x])
        cv2.imwrite(str(kitchen / f'frame-{i:06d}.depth.png'), np.full((480, 640), 2000, np.uint16))
        np.savetxt(kitchen / f'frame-{i:06d}.pose.txt', pose)
    pretrained = root / 'pretrained'
    pretrained.mkdir()
    torch.manual_seed(1)
    weights = {k: v.numpy() for k, v in MobileNetV2().state_dict().items()}
    np.savez(pretrained / 'mobilenet_v2_imagenet.npz', **weights)
