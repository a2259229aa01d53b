"""
Depth of the frames of a drive whose poses are known: dense optical flow, triangulated.

What a lidar would have measured can be had from a camera's own motion where the scene stands still: the flow
from a frame to its neighbours in time gives every pixel's partner, and the known motion its depth. Depth that
is unsure (little parallax), off the epipolar line (something that moves) or not the same from different
neighbours is left unknown. The flow is that of Kroeger et al., "Fast Optical Flow using Dense Inverse
Search", 2016, as OpenCV has it; the variance of a depth follows from the parallax to first order (Hartley and
Zisserman, "Multiple View Geometry", 2nd edition, section 12.6).
"""

from dataclasses import replace

import cv2
import numpy as np

FLOW_SIGMA = 0.5  # pixels; standard deviation of the flow
BOTH_WAYS = 1.0  # pixels; largest distance after going to the other frame and back
EPIPOLAR = 1.5  # pixels; largest distance of the partner from where the depth found would put it
RELATIVE_SIGMA = 0.08  # of a depth that one neighbour gives
AGREEMENT = 0.12  # relative difference from the median within which neighbours agree
NEAREST, FARTHEST = 1.0, 80.0  # metres
GAPS = (
    -6,
    -3,
    -1,
    1,
    3,
    6,
)  # frames; far neighbours for what is far, near ones for what soon leaves the view


def flow_between(first, second):
    """Optical flow of two gray images [H,W] uint8: (displacement [H,W,2] of pixels, trusted [H,W] bool)."""
    engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, backward = engine.calc(first, second, None), engine.calc(second, first, None)
    height, width = first.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    there = np.dstack([x, y]) + forward
    outside = (1e3, 1e3)
    back = cv2.remap(
        backward, *cv2.split(there), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
    )
    return forward, np.linalg.norm(forward + back, axis=2) < BOTH_WAYS


def triangulate_flow(flow, camera, relative):
    """
    Depth of every pixel from where it went.

    :param flow: [H,W,2] displacement in pixels.
    :param camera: :class:`mt_perception.camera.Camera` of both images, without distortion.
    :param relative: [4,4] first camera → second camera, metres.
    :return: (depth [H,W] in metres, its standard deviation, distance to the epipolar line in pixels).
    """
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.dstack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x, np.float64)])
    u = (x + flow[..., 0] - camera.cx) / camera.fx
    v = (y + flow[..., 1] - camera.cy) / camera.fy
    turned, move = rays @ relative[:3, :3].T, relative[:3, 3]
    # depth · slope = offset, for both coordinates of the partner
    slope = np.dstack([turned[..., 0] - u * turned[..., 2], turned[..., 1] - v * turned[..., 2]])
    offset = np.dstack([u * move[2] - move[0], v * move[2] - move[1]])
    square = np.maximum((slope**2).sum(2), 1e-12)
    depth = (slope * offset).sum(2) / square
    there = np.maximum(depth * turned[..., 2] + move[2], 1e-3)
    focal = (camera.fx + camera.fy) / 2
    distance = np.linalg.norm(slope * depth[..., None] - offset, axis=2) / there * focal
    return depth, FLOW_SIGMA / focal * there / np.sqrt(square), distance


def depth_from_motion(images, camera, poses, index, gaps=GAPS, agreeing=2):
    """
    Depth of one frame of a drive from its neighbours in time.

    :param images: sequence of [H,W,3] uint8 RGB.
    :param camera: their :class:`mt_perception.camera.Camera`, without distortion.
    :param poses: [N,4,4] camera → world in metres.
    :param index: of the frame.
    :param gaps: distances in frames to the neighbours; those outside the drive are left out.
    :param agreeing: neighbours that must give the same depth.
    :return: [H,W] float32 metres, NaN where unknown.
    """
    first = cv2.cvtColor(images[index], cv2.COLOR_RGB2GRAY)
    depths, weights = [], []
    for gap in gaps:
        if not 0 <= index + gap < len(images):
            continue
        flow, trusted = flow_between(first, cv2.cvtColor(images[index + gap], cv2.COLOR_RGB2GRAY))
        relative = np.linalg.inv(poses[index + gap]) @ poses[index]
        depth, sigma, distance = triangulate_flow(flow, camera, relative)
        good = trusted & (distance < EPIPOLAR) & (depth > NEAREST) & (depth < FARTHEST)
        good &= sigma < RELATIVE_SIGMA * depth
        depths.append(np.where(good, depth, np.nan))
        weights.append(np.where(good, (depth / np.maximum(sigma, 1e-9)) ** 2, 0.0))
    out = np.full(first.shape, np.nan, np.float32)
    if len(depths) < agreeing:
        return out
    depths, weights = np.stack(depths), np.stack(weights)
    known = np.isfinite(depths).any(axis=0)
    middle = np.full(first.shape, np.nan)
    middle[known] = np.nanmedian(depths[:, known], axis=0)
    with np.errstate(invalid='ignore'):
        same = np.abs(depths - middle) < AGREEMENT * middle
    weights = np.where(same, weights, 0.0)
    sure = same.sum(axis=0) >= agreeing
    mean = np.where(same, weights * np.nan_to_num(np.log(np.maximum(depths, 1e-6))), 0.0).sum(axis=0)
    out[sure] = np.exp(mean[sure] / weights.sum(axis=0)[sure])
    return out


class WithMotionDepth:
    """
    A sequence with poses and calibration, whose frames get the depth that its motion gives.

    :param sequence: :class:`mt_perception.sequences.base.Sequence`.
    :param gaps: see :func:`depth_from_motion`.
    """

    def __init__(self, sequence, gaps=GAPS):
        """Keep the sequence."""
        self.sequence, self.gaps, self._images = sequence, gaps, {}

    def __len__(self):
        """Return the number of frames."""
        return len(self.sequence)

    def image(self, index):
        """Read an image, or return it when it has just been read."""
        if index not in self._images:
            self._images[index] = self.sequence[index].image
            while len(self._images) > 2 * max(map(abs, self.gaps)) + 2:
                self._images.pop(next(iter(self._images)))
        return self._images[index]

    def __getitem__(self, index):
        """Return frame ``index`` with its depth; without one where it has no pose or calibration."""
        frame, poses = self.sequence[index], self.sequence.poses
        if frame.pose is None or frame.camera is None:
            return frame
        gaps = [g for g in self.gaps if 0 <= index + g < len(self) and poses[index + g] is not None]
        return replace(frame, depth=depth_from_motion(_Images(self), frame.camera, poses, index, gaps))


class _Images:
    """The images of :class:`WithMotionDepth` as a list."""

    def __init__(self, frames):
        self._frames = frames

    def __len__(self):
        return len(self._frames)

    def __getitem__(self, index):
        return self._frames.image(index)
