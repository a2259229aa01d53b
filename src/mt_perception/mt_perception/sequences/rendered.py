"""Sequences the project renders itself: exact depth, classes and poses, no download."""

import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import SequenceError
from mt_perception.rendering import make_scene, render
from mt_perception.rendering.photometry import expose
from mt_perception.sequences.base import Sequence, SequenceFrame

FOCAL = 0.82  # default focal length in image widths
SPEED = {'street': 7.0, 'loop': 6.0, 'room': 1.0}  # metres per second; of the room: time itself


class RenderedSequence(Sequence):
    """
    A camera moving through a rendered world; every frame is made when it is asked for.

    :param scene: 'street', 'loop' or 'room'.
    :param seed: another seed, another world and motion.
    :param frames: number of frames; None: 150, or once around and a little more for 'loop'.
    :param width: image width in pixels.
    :param height: image height in pixels.
    :param fps: frames per second.
    :param focal: focal length in pixels; default 0.82 image widths.
    :param speed: driving speed in m/s (of the room: how quickly the motion is played).
    :param traffic: number of moving cars and cyclists (streets only).
    :param exposure: see :func:`mt_perception.rendering.photometry.expose`, as are ``blur`` and ``noise``.
    :raises SequenceError: unknown scene or a number that makes no sense.
    """

    def __init__(
        self,
        scene='street',
        seed=0,
        frames=None,
        width=640,
        height=480,
        fps=10.0,
        focal=None,
        speed=None,
        traffic=0,
        exposure=1.0,
        blur=0.0,
        noise=0.0,
    ):
        if scene not in SPEED:
            raise SequenceError(f"there is no rendered scene '{scene}'; use one of {', '.join(SPEED)}")
        if frames is not None and frames < 1:
            raise SequenceError(f'a rendered sequence needs at least one frame, not {frames}')
        self.name = f'rendered_{scene}_{seed}'
        self.camera = Camera.from_focal(width, height, FOCAL * width if focal is None else focal)
        self._photometry = {'exposure': exposure, 'blur': blur, 'noise': noise}
        self._seed = seed
        self.speed = SPEED[scene] if speed is None else float(speed)
        step = self.speed / fps
        options = {} if scene == 'room' else {'traffic': traffic}
        if scene == 'street':
            frames = 150 if frames is None else frames
            options['length'] = max(160.0, step * frames + 10)
        self.scene = make_scene(scene, seed, **options)
        if frames is None:
            frames = int(np.ceil(1.12 * self.scene.path.length / step)) if scene == 'loop' else 150
        self.stamps = np.arange(frames) / fps
        self.poses = [self.scene.path(step * i) for i in range(frames)]

    def __len__(self):
        """Return the number of frames."""
        return len(self.stamps)

    def __getitem__(self, index):
        """Render frame ``index``."""
        index = range(len(self))[index]
        image, depth, labels = render(self.scene, self.camera, self.poses[index], self.stamps[index])
        image = expose(image, **self._photometry, seed=[self._seed, 5, index])
        return SequenceFrame(
            index, float(self.stamps[index]), image, self.camera, self.poses[index].copy(), depth, labels
        )
