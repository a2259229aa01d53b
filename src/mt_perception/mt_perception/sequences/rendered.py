"""Sequences the project renders itself: exact depth, classes and poses, no download."""

from functools import lru_cache

import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import SequenceError
from mt_perception.rendering import disturbances as happen
from mt_perception.rendering import make_scene, render_view
from mt_perception.rendering.photometry import expose
from mt_perception.rendering.traffic import add_people, add_vehicles
from mt_perception.sequences.base import Sequence, SequenceFrame
from mt_perception.sequences.rendered_name import folder_name
from mt_perception.sequences.timeline import Pause, drop_frames, make_timeline, repeat_frames

FOCAL = 0.82  # default focal length in image widths
# metres per second; of the room: time itself
SPEED = {'street': 7.0, 'loop': 6.0, 'room': 1.0, 'street_loop': 7.2, 'room_loop': 0.4}
LAPS = {'loop': 1.12, 'street_loop': 1.15, 'room_loop': 1.15}
FRAMES = 150  # of scenes without an end
PAUSE_AFTER_S = 4.0
EVENT_AT = 0.4  # of the sequence's duration: when it gets dark, or the lens is covered
KEPT_WORLDS = 2  # worlds whose textures stay ready for further variants
STILL_NOISE = 1.0  # a camera that stands has a sensor all the same


class RenderedSequence(Sequence):
    """
    A camera moving through a rendered world; every frame is made when it is asked for.

    What goes wrong comes in this order: things that move, where the camera is when, which pictures are lost
    or repeated, blur, the cover, exposure and noise, darkness. Poses are those at which the pictures shown
    were taken; depth and classes are exact also where the picture does not show them.

    :param scene: 'street' or 'room', or 'loop', 'street_loop', 'room_loop', which come back to their start.
    :param seed: another seed, another world and motion.
    :param frames: number of frames; None: 150, or once around and a little more for a loop, and what pauses
        take.
    :param width: image width in pixels.
    :param height: image height in pixels.
    :param fps: frames per second.
    :param focal: focal length in pixels; default 0.82 image widths.
    :param speed: driving or walking speed in m/s (of 'room': how quickly the motion is played).
    :param traffic: number of moving cars and cyclists (streets only).
    :param exposure: see :func:`mt_perception.rendering.photometry.expose`, as are ``blur`` and ``noise``.
    :param noise: None: 1 when ``still``, else 0.
    :param moving: vehicles or people cover about 30 % of the picture; ``SequenceFrame.moving`` shows where.
    :param blackout: seconds of darkness after 40 % of the sequence.
    :param covered: seconds that something covers the lens, from there too.
    :param motion_blur: seconds that the shutter is open.
    :param exposure_jumps: the exposure jumps every one to three seconds.
    :param still: seconds that the camera stands, after four seconds.
    :param rotation: degrees that it turns to the left on the spot and back again, after four seconds.
    :param low_texture: share of the textures' contrast that is left; None: all.
    :param dropped: share of the frames that are lost, besides half a second in the middle.
    :param repeated: share of the frames that show the picture before, besides half a second in the middle.
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
        noise=None,
        moving=False,
        blackout=0.0,
        covered=0.0,
        motion_blur=0.0,
        exposure_jumps=False,
        still=0.0,
        rotation=0.0,
        low_texture=None,
        dropped=0.0,
        repeated=0.0,
    ):
        if scene not in SPEED:
            raise SequenceError(f"there is no rendered scene '{scene}'; use one of {', '.join(SPEED)}")
        noise = (STILL_NOISE if still else 0.0) if noise is None else noise
        _check(
            positive={'width': width, 'height': height, 'fps': fps},
            not_negative={'exposure': exposure, 'blur': blur, 'noise': noise, 'motion_blur': motion_blur}
            | {'blackout': blackout, 'covered': covered, 'still': still, 'traffic': traffic},
            shares={'low_texture': low_texture or 0.0, 'dropped': dropped, 'repeated': repeated},
        )
        if frames is not None and frames < 1:
            raise SequenceError(f'a rendered sequence needs at least one frame, not {frames}')
        self.name = folder_name(scene, seed, {})
        self.camera = Camera.from_focal(width, height, FOCAL * width if focal is None else focal)
        self._photometry = {'exposure': exposure, 'blur': blur, 'noise': noise}
        self._seed = seed
        self.speed = SPEED[scene] if speed is None else float(speed)
        self._step = self.speed / fps
        self._shutter, self._jumps = motion_blur, exposure_jumps

        options = {} if scene.startswith('room') else {'traffic': traffic}
        if scene == 'street':
            options['length'] = max(160.0, self._step * (frames or FRAMES) + 10)
        self.scene = _world(scene, seed, tuple(options.items()))
        whole = FRAMES if frames is None else frames
        if frames is None and scene in LAPS:
            whole = int(np.ceil(LAPS[scene] * self.scene.path.length / self._step))
        self._timeline = self._plan(whole, frames, fps, still, rotation, dropped, repeated)
        self._change_scene(scene, moving, low_texture)
        self._events = self._plan_events(blackout, covered)
        self._last = None

        self.stamps = self._timeline.stamps
        self.poses = [self._pose_at(self._timeline.time[tick]) for tick in self._timeline.tick]

    def _plan(self, whole, frames, fps, still, rotation, dropped, repeated):
        """Return the :class:`Timeline`."""
        pauses = []
        if still:
            pauses.append(Pause(PAUSE_AFTER_S, still))
        if rotation:
            after = PAUSE_AFTER_S + (still + 2 * PAUSE_AFTER_S if still else 0.0)
            pauses.append(Pause.turning(after, rotation))
        timeline = make_timeline(whole, fps, pauses, frames)
        for change, share, number in ((drop_frames, dropped, 1), (repeat_frames, repeated, 2)):
            if share:
                timeline = change(timeline, share, np.random.default_rng([self._seed, 6, number]))
        return timeline

    def _change_scene(self, scene, moving, low_texture):
        """Add what moves, take away what one could hold on to."""
        if moving and scene.startswith('room'):
            self.scene = add_people(self.scene, self.speed, self._seed)
        elif moving:
            self.scene = add_vehicles(self.scene, self.speed, self._seed, float(self._timeline.time[-1]))
        if low_texture is not None:
            self.scene = self.scene.flattened(low_texture)

    def _plan_events(self, blackout, covered):
        """Return what happens to the pictures: dark (from, until), covered (from, until), exposures."""
        seconds = float(self._timeline.time[-1])
        at = EVENT_AT * seconds
        jumps = (
            happen.exposure_schedule(np.random.default_rng([self._seed, 6, 3]), seconds)
            if self._jumps
            else None
        )
        return (at, at + blackout), (at, at + covered) if covered else None, jumps

    def _pose_at(self, time):
        """Return the camera's pose at any time in seconds."""
        way, turn = self._timeline.at(time)
        pose = self.scene.path(self._step * way)
        if turn:
            c, s = np.cos(turn), np.sin(turn)
            pose[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ pose[:3, :3]
        return pose

    def __len__(self):
        """Return the number of frames."""
        return len(self.stamps)

    def __getitem__(self, index):
        """Render frame ``index``."""
        index = range(len(self))[index]
        tick = int(self._timeline.tick[index])
        time, pose = float(self._timeline.time[tick]), self.poses[index]
        view = self._view(pose, time)
        image = self._take(view, pose, time, tick)
        return SequenceFrame(
            index,
            float(self.stamps[index]),
            image,
            self.camera,
            pose.copy(),
            view.depth.copy(),
            view.labels.copy(),
            None if view.moving is None else view.moving.copy(),
        )

    def _view(self, pose, time):
        """Render, unless the camera and all else stand where they stood before."""
        if self._last is None or self.scene.movers or not np.array_equal(self._last[0], pose):
            self._last = (pose, render_view(self.scene, self.camera, pose, time))
        return self._last[1]

    def _take(self, view, pose, time, tick):
        """Return the picture that the camera takes of a view."""
        (dark_from, dark_until), covered, jumps = self._events
        seed = [self._seed, 5, tick]
        image = view.image
        if dark_from <= time < dark_until:
            return happen.darkness(image, seed)
        if self._shutter:
            ends = (self._pose_at(time + d * self._shutter / 2) for d in (-1, 1))
            before, after = ends
            image = happen.motion_blur(image, view.depth, self.camera, before, pose, after)
        photometry = dict(self._photometry)
        if jumps is not None:
            starts, factors = jumps
            photometry['exposure'] *= factors[np.searchsorted(starts, time, side='right') - 1]
        if covered is not None:
            image = happen.cover(image, _covered_share(time, *covered), [self._seed, 7])
        return expose(image, **photometry, seed=seed)


def _covered_share(time, begin, end):
    """Return how much of the lens is covered, 0–1; all of it from ``begin`` to ``end``."""
    slide = happen.COVER_SLIDE_S
    return float(np.clip(min((time - begin) / slide + 1, (end - time) / slide + 1), 0, 1))


@lru_cache(maxsize=KEPT_WORLDS)
def _world(scene, seed, options):
    """Return a world; variants of one share its geometry and its textures."""
    return make_scene(scene, seed, **dict(options))


def _check(positive, not_negative, shares):
    """Raise a SequenceError for the first value that makes no sense."""
    for values, good, wanted in (
        (positive, lambda v: v > 0, 'positive'),
        (not_negative, lambda v: v >= 0, 'zero or more'),
        (shares, lambda v: 0 <= v < 1, 'from 0 to below 1'),
    ):
        for name, value in values.items():
            if not (np.isfinite(value) and good(value)):
                raise SequenceError(f'{name} of a rendered sequence must be {wanted}, not {value:g}')
