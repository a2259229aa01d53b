"""
What moves by itself in front of the camera: vehicles in a street, people in a room.

They cover about a third of the picture all the way, the hard case of odometry: much of it goes along with
the camera for a while, each thing at its own pace.
"""

import numpy as np

from mt_perception.rendering import people, vehicles
from mt_perception.rendering.scene import UP, Follower, SceneBuilder

CAR, PEDESTRIAN = 8, 9
SEED = 11  # of the random generators here, beside the scene's own
VAN_SIZE = 1.2  # a high van
LEAD_GAP_M = (7.9, 1.2, 13.0)  # camera to the middle of the van ahead: mean, swing, and period in s
STREAM_SPACING_M = 9.5  # between the vehicles of the other lane
STREAM_FASTER = 1.3  # m/s than the camera
STREAM_AHEAD_M = 75.0  # where they end
HALF_WHEELBASE_M = 1.3
WALKER_SPACING_M = 14.0
WALKER_SPEED = 1.4  # m/s
CARD = (1.0, 1.9)  # metres: a person's card
SMOOTHED_S = 1.5  # people go along with the camera's motion averaged over so long before and after
PERSON_AHEAD_M = ((1.55, 0.2, 5.3), (1.75, 0.25, 7.1), (2.6, 0.3, 9.7))  # mean, swing, period in s
PERSON_LEFT_M = ((-0.5, 0.22, 4.1), (0.5, 0.25, 6.3), (0.0, 0.7, 5.0))


def add_vehicles(scene, speed, seed, seconds):
    """
    Return a street with a van ahead of the camera, a stream of faster vehicles beside it, and walkers.

    :param scene: of :func:`mt_perception.rendering.street.street` or ``loop``.
    :param speed: of the camera in m/s, when nothing stops it.
    :param seed: of the vehicles.
    :param seconds: for which there are vehicles in the other lane.
    :return: :class:`mt_perception.rendering.scene.Scene`, which shares its textures with ``scene``.
    """
    rng = np.random.default_rng([seed, SEED])
    builder = _builder(scene, seed)
    drive = scene.path
    mean, swing, period = LEAD_GAP_M
    phase = rng.uniform(0, 2 * np.pi)

    def ahead(time):
        return drive.start + speed * time + mean + swing * np.sin(2 * np.pi * time / period + phase)

    _vehicle(builder, rng, drive.line, ahead, drive.lane, 'van', VAN_SIZE)
    other_lane = -(drive.half_road - 2.95)
    first = -STREAM_FASTER * seconds
    for i, start in enumerate(np.arange(STREAM_AHEAD_M, first, -STREAM_SPACING_M)):
        start += rng.uniform(-1.2, 1.2)
        kind = 'van' if i % 2 == 0 else rng.choice(['suv', 'estate', 'saloon', 'hatchback'])
        size = VAN_SIZE if kind == 'van' else 1.0

        def beside(time, start=start):
            return drive.start + start + (speed + STREAM_FASTER) * time

        _vehicle(builder, rng, drive.line, beside, other_lane, kind, size)
    _walkers(builder, rng, drive)
    return scene.joined(builder)


def add_people(scene, speed, seed):
    """
    Return a room with people who walk in front of the camera.

    :param scene: a room; its path takes seconds or metres.
    :param speed: what the path's argument grows by in a second, when nothing stops the camera.
    :param seed: of the people.
    :return: :class:`mt_perception.rendering.scene.Scene`, which shares its textures with ``scene``.
    """
    rng = np.random.default_rng([seed, SEED])
    builder = _builder(scene, seed)
    path = scene.path
    for ahead, left in zip(PERSON_AHEAD_M, PERSON_LEFT_M):
        card = builder.texture(people.pedestrian_card)
        phase = rng.uniform(0, 2 * np.pi, 2)

        def place(time, ahead=ahead, left=left, phase=phase):
            at, forward = _smooth_motion(path, speed, time)
            sideways = np.array([-forward[1], forward[0]])
            along = ahead[0] + ahead[1] * np.sin(2 * np.pi * time / ahead[2] + phase[0])
            across = left[0] + left[1] * np.sin(2 * np.pi * time / left[2] + phase[1])
            return path.keep_inside(at + along * forward + across * sideways)

        _person(builder, rng, card, place, 0.0)
    return scene.joined(builder)


def _builder(scene, seed):
    """Return a builder whose textures have other random numbers than the scene's."""
    builder = SceneBuilder(seed)
    builder.offset = len(scene.textures)
    return builder


def _vehicle(builder, rng, line, travelled, left, kind, size):
    """Add a vehicle that follows a centre line; ``travelled`` gives its arc length by time."""
    first, last = vehicles.add_car(
        builder, rng, (0.0, 0.0), 0.0, CAR, kind=kind, grow=size, livery=kind == 'van'
    )

    def motion(time, eye):
        s = travelled(time)
        rear, front = line.at(s - HALF_WHEELBASE_M, left), line.at(s + HALF_WHEELBASE_M, left)
        return _upright(np.arctan2(*(front - rear)[::-1]), (front + rear) / 2)

    builder.movers.append(Follower(first, last, motion))


def _walkers(builder, rng, drive):
    """Add pedestrians that walk along the pavements, towards the camera and with it."""
    cards = [builder.texture(people.pedestrian_card) for _ in range(6)]
    for i, start in enumerate(np.arange(0.0, drive.line.length, WALKER_SPACING_M)):
        start += rng.uniform(-4, 4)
        side, sense = rng.choice([-1, 1]), rng.choice([-1, 1])
        left = side * (drive.half_road + rng.uniform(0.5, 1.6))

        def place(time, start=start, left=left, sense=sense):
            return drive.line.at(start + sense * WALKER_SPEED * time, left)

        _person(builder, rng, cards[i % len(cards)], place, 0.12)


def _person(builder, rng, card, place, floor):
    """Add a cut-out person; ``place`` gives where [2] the person is by time. The card turns to the camera."""
    size = rng.uniform(0.9, 1.04)
    width, height = CARD[0] * size, CARD[1] * size
    first = len(builder)
    builder.quad(
        (0, width / 2, floor + height), (0, -1, 0), -UP, (width, height), card, PEDESTRIAN, two_sided=True
    )

    def motion(time, eye):
        at = place(time)
        away = at - eye[:2]
        return _upright(np.arctan2(away[1], away[0]), at)

    builder.movers.append(Follower(first, len(builder), motion))


def _smooth_motion(path, speed, time):
    """Return where a camera is [2] and looks [2], in the ground plane, averaged over a few seconds."""
    poses = np.array([path(speed * (time + d)) for d in np.linspace(-SMOOTHED_S, SMOOTHED_S, 7)])
    forward = poses[:, :2, 2].mean(0)
    return poses[:, :2, 3].mean(0), forward / np.linalg.norm(forward)


def _upright(heading, at):
    """Return the rigid motion [4,4] that turns by a heading and moves to a place [2] on the ground."""
    c, s = np.cos(heading), np.sin(heading)
    pose = np.eye(4)
    pose[:2, :2] = ((c, -s), (s, c))
    pose[:2, 3] = at
    return pose
