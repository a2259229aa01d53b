"""The worlds the renderer knows, by name."""

from mt_perception.errors import SequenceError
from mt_perception.rendering.room import room
from mt_perception.rendering.street import loop, street

SCENES = {'street': street, 'loop': loop, 'room': room}


def make_scene(name, seed=0, **options):
    """
    Build a world.

    :param name: 'street' (a drive along a road), 'loop' (a road around a block) or 'room'.
    :param seed: another seed, another world.
    :param options: of the world's own function, e.g. ``traffic`` of a street.
    :return: :class:`mt_perception.rendering.scene.Scene`.
    :raises SequenceError: no such world.
    """
    if name not in SCENES:
        raise SequenceError(f"there is no rendered scene '{name}'; use one of {', '.join(SCENES)}")
    return SCENES[name](seed, **options)
