"""Miniature copies of public data sets in their own layouts, for tests of the commands that read them."""

import json

import cv2
import numpy as np

SIZE = (64, 32)  # width, height
CAMERA = {
    'extrinsic': {'baseline': 0.2},
    'intrinsic': {'fx': 2000.0, 'fy': 2000.0, 'u0': 1023.5, 'v0': 511.5},
}
VISTAS_CLASSES = [
    {'name': 'road', 'readable': 'Road', 'color': [128, 64, 128], 'instances': False, 'evaluate': True},
    {'name': 'void--unlabeled', 'readable': '', 'color': [0, 0, 0], 'instances': False, 'evaluate': False},
    {'name': 'object--car', 'readable': 'Car', 'color': [0, 0, 142], 'instances': True, 'evaluate': True},
]


def save(path, array):
    """Write an image, BGR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)


def write_cityscapes(root):
    """Write two images per split, all sidewalk and 5 m away; their red is 1 left of column 40, else 0."""
    for split in ('train', 'val'):
        for number in range(2):
            name = f'{split}/ulm/ulm_{number:06d}_000019'
            image = np.full((SIZE[1], SIZE[0], 3), (50, 0, 0), np.uint8)
            image[:, :40, 2] = 1
            save(root / f'leftImg8bit/{name}_leftImg8bit.png', image)
            save(root / f'gtFine/{name}_gtFine_labelIds.png', np.full(SIZE[::-1], 8, np.uint8))
            save(root / f'disparity/{name}_disparity.png', np.full(SIZE[::-1], 1 + 256 * 80, np.uint16))
            path = root / f'camera/{name}_camera.json'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(CAMERA))


def write_pittsburgh(root):
    """Write four places of one colour each, a query and a reference 4 m apart, for training and test."""
    rng = np.random.default_rng(0)
    for i in range(4):
        color = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        color[...] = rng.integers(30, 220, 3)
        for folder, shift in (('queries', 4), ('database', 0)):
            for split in ('train', 'test'):
                save(root / f'images/{split}/{folder}/@{100 * i + shift}@0@x@.png', color)


def write_vistas(root, split='training'):
    """Write two images of Mapillary Vistas: road, an unlabelled row, two cars, one of them in two parts."""
    root.mkdir(exist_ok=True)
    (root / 'config_v2.0.json').write_text(json.dumps({'labels': VISTAS_CLASSES}))
    for name in ('a', 'b'):
        values = np.zeros((6, 8), np.uint16)
        values[5] = 1 * 256
        values[1, 1:4] = 2 * 256
        values[1, 6] = values[3, 2] = 2 * 256 + 1
        for folder, array in (
            ('images', np.full((6, 8, 3), 90, np.uint8)),
            ('v2.0/labels', (values // 256).astype(np.uint8)),
            ('v2.0/instances', values),
        ):
            save(root / split / folder / f'{name}.{"jpg" if folder == "images" else "png"}', array)


def planar_scene(folder, homographies, size=(400, 300)):
    """Write an Oxford scene: a texture and its warped copies."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    image = np.zeros((size[1], size[0], 3), np.float32)
    for step in (4, 8, 16):
        small = rng.uniform(0, 255, (size[1] // step + 1, size[0] // step + 1, 3)).astype(np.float32)
        image += cv2.resize(small, size, interpolation=cv2.INTER_CUBIC) / 3
    image = np.clip(image, 0, 255).astype(np.uint8)
    cv2.imwrite(str(folder / 'img1.png'), image)
    for n, homography in enumerate(homographies, 2):
        cv2.imwrite(
            str(folder / f'img{n}.png'), cv2.warpPerspective(image, homography, size, flags=cv2.INTER_CUBIC)
        )
        np.savetxt(folder / f'H1to{n}p', homography)


def write_hpatches(root):
    """Write one scene of HPatches: a texture and the same again."""
    planar_scene(root / 'v_wall', [np.eye(3)])
    for name, other in (('img1.png', '1.png'), ('img2.png', '2.png'), ('H1to2p', 'H_1_2')):
        (root / 'v_wall' / name).rename(root / 'v_wall' / other)
