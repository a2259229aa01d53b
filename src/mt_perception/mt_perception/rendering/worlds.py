"""The worlds the renderer knows, by name."""

from mt_perception.errors import SequenceError
from mt_perception.rendering.room import room, room_loop
from mt_perception.rendering.street import loop, street

SCENES = {'street': street, 'loop': loop, 'room': room, 'street_loop': loop, 'room_loop': room_loop}


def make_scene(name, seed=0, **options):
    """
    Build a world.

    :param name: 'street' (a drive along a road), 'loop' or 'street_loop' (a road around a block), 'room', or
        'room_loop' (a larger one that the camera is carried round).
    :param seed: another seed, another world.
    :param options: of the world's own function, e.g. ``traffic`` of a street.
    :return: :class:`mt_perception.rendering.scene.Scene`.
    :raises SequenceError: no such world.
    """
    if name not in SCENES:
        raise SequenceError(f"there is no rendered scene '{name}'; use one of {', '.join(SCENES)}")
    return SCENES[name](seed, **options)
