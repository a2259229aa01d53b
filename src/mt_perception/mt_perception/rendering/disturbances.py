"""What happens to the pictures of a camera on a robot: blur, darkness, a hand on the lens, exposure."""

import cv2
import numpy as np

from mt_perception.rendering.noise import value_noise
from mt_perception.rendering.photometry import GAMMA, expose

FAR_AWAY = 1e5  # metres: the sky's depth
BLUR_STEP_PX = 2.5  # pixels of motion per sample of a blurred picture
MAX_SAMPLES = 17
DARK_NOISE = 2.0  # of a picture taken in the dark, see :func:`mt_perception.rendering.photometry.expose`
EXPOSURES = (0.25, 0.5, 1.0, 2.0, 3.5)  # factors on the light
STEADY_S = 2.0  # before the first jump of exposure
COVER_SLIDE_S = 0.4  # a hand takes to cover the lens
COVER_BLUR = 0.06  # deviation of its outline in image widths: it is much too near to be sharp
COVER_COLOR = (46, 20, 14)  # light that comes through fingers


def motion_blur(image, depth, camera, before, pose, after):
    """
    Blur a picture by the camera's own motion while the shutter is open.

    Every pixel is the mean, in light, of the pixels along the path that its point takes over the image; what
    moves by itself is blurred like what stands still at its place.

    :param image: [H,W,3] uint8 RGB, taken at ``pose``.
    :param depth: [H,W] float32 metres, NaN = far away.
    :param camera: :class:`mt_perception.camera.Camera`.
    :param before: [4,4] camera-to-world when the shutter opens.
    :param pose: the same halfway.
    :param after: the same when it closes.
    :return: [H,W,3] uint8.
    """
    height, width = depth.shape
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    z = np.nan_to_num(depth, nan=FAR_AWAY)
    points = np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z], -1)
    points = points.astype(np.float32)
    (x0, y0), (x1, y1) = (_seen_from(points, camera, np.linalg.inv(end) @ pose) for end in (before, after))
    dx, dy = x1 - x0, y1 - y0
    # What comes very close or passes the camera has no path over the image; half the image is enough.
    for shift in (dx, dy):
        np.nan_to_num(shift, copy=False)
        np.clip(shift, -width / 2, width / 2, out=shift)
    longest = float(np.quantile(np.hypot(dx[::8, ::8], dy[::8, ::8]), 0.95))
    samples = int(np.clip(np.ceil(longest / BLUR_STEP_PX), 1, (MAX_SAMPLES - 1) // 2)) * 2 + 1
    light = _to_light()[image]
    total = np.zeros_like(light)
    for share in np.linspace(-0.5, 0.5, samples, dtype=np.float32):
        total += cv2.remap(
            light, u + share * dx, v + share * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return _from_light(total / samples)


def _seen_from(points, camera, motion):
    """Return the pixels x, y [H,W] float32 of points [H,W,3] after a motion [4,4]; NaN behind the camera."""
    moved = points @ motion[:3, :3].T.astype(np.float32) + motion[:3, 3].astype(np.float32)
    z = np.where(moved[..., 2] > 0.05, moved[..., 2], np.nan)
    return (
        moved[..., 0] / z * np.float32(camera.fx) + np.float32(camera.cx),
        moved[..., 1] / z * np.float32(camera.fy) + np.float32(camera.cy),
    )


def _to_light():
    """Return [256] float32 light of a pixel value."""
    return np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(GAMMA)


def _from_light(light):
    return (np.clip(light, 0, 1) ** np.float32(1 / GAMMA) * 255 + 0.5).astype(np.uint8)


def darkness(image, seed):
    """Return what a camera takes without any light: read noise alone."""
    return expose(np.zeros_like(image), noise=DARK_NOISE, seed=seed)


def cover(image, share, seed):
    """
    Return a picture with something in front of the lens.

    :param share: 0: beside the picture, 1: all of it is covered.
    :param seed: of its shape, the same for all pictures of one cover.
    :return: [H,W,3] uint8.
    """
    if share <= 0:
        return image
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi)
    blur = COVER_BLUR * width
    reach = np.hypot(height, width) / 2 + 2.5 * blur
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    edge = reach * (2 * share - 1)
    shape = 0.8 * blur * value_noise(rng, height, width, width / 3)
    opacity = 1 / (1 + np.exp(np.clip((across + shape - edge) / (0.4 * blur), -30, 30)))
    if share >= 1:
        opacity[:] = 1
    glow = np.clip(1 + 0.35 * value_noise(rng, height, width, width / 2), 0.3, 2)[..., None]
    light = _to_light()
    color = light[np.array(COVER_COLOR)] * glow
    opacity = opacity[..., None].astype(np.float32)
    return _from_light(light[image] * (1 - opacity) + color * opacity)


def exposure_schedule(rng, seconds):
    """
    Return factors on the light that jump every one to three seconds.

    :param seconds: length of the sequence.
    :return: [n] seconds at which a factor begins, [n] factors; the first is 1.
    """
    starts, factors = [0.0], [1.0]
    now = STEADY_S
    while now < seconds:
        starts.append(now)
        factors.append(float(rng.choice([f for f in EXPOSURES if f != factors[-1]])))
        now += rng.uniform(1.0, 3.0)
    return np.array(starts), np.array(factors)
