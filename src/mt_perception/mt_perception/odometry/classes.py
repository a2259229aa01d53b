"""What the classes of keypoints mean to odometry: things that move by themselves, and the ground."""

import re
from dataclasses import dataclass, field

import numpy as np


def plain(name):
    """Return a class name in the form in which names are compared: 'Road Marking' is 'road_marking'."""
    return re.sub(r'[\s_-]+', '_', name.strip().lower())


def ids_of(class_names, wanted):
    """
    Return the ids of the classes with one of the names ``wanted``, ascending [K].

    :param class_names: {id: name}, or the names in the order of their ids.
    :param wanted: names; those that no class has do not matter, as one list serves many networks.
    """
    if not isinstance(class_names, dict):
        class_names = dict(enumerate(class_names))
    wanted = {plain(name) for name in wanted}
    return np.array(sorted(i for i, name in class_names.items() if plain(name) in wanted), np.int64)


@dataclass
class Classes:
    """
    The classes that matter, as ids.

    :param movable: [K] ids of what moves by itself.
    :param ground: [K] ids of the surface that the camera's carrier moves on.
    """

    movable: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ground: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, class_names, parameters):
        """
        Look the classes up by name.

        :param class_names: {id: name}, or the names in the order of their ids; empty when unknown.
        :param parameters: :class:`OdometryParameters`.
        """
        movable = parameters.movable_classes if parameters.ignore_movable else ()
        return cls(ids_of(class_names, movable), ids_of(class_names, parameters.ground_classes))

    def is_movable(self, keypoints, least):
        """
        Tell which keypoints are on things that move by themselves.

        :param keypoints: :class:`mt_perception.types.Keypoints`.
        :param least: others there must be; with fewer none counts as movable.
        :return: [N] bool.
        """
        movable = np.isin(keypoints.class_id, self.movable)
        if len(movable) - movable.sum() < least:
            movable[:] = False
        return movable
