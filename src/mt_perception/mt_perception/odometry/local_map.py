"""The keyframes and points that the camera can presently be located against."""

import numpy as np

FIRST_CAPACITY = 1024


class LocalMap:
    """
    Points as growing arrays, keyframes as a list; an observation is an entry of ``Frame.point_ids``.

    :ivar keyframes: list of :class:`Frame` in order of time.
    :ivar position: [cap,3] of each point in the world.
    :ivar descriptor: [cap,D] of its newest observation.
    :ivar alive: [cap] bool.
    :ivar observations: [cap] number of keyframes that see the point.
    :ivar visible: [cap] frames in which the point should have been seen.
    :ivar found: [cap] frames in which it was.
    :ivar born: [cap] id of the keyframe that made it.
    :ivar anchor: [cap,3] where that keyframe stood: the depth of the point is unsure along the line from
        there.
    :ivar depth_sigma: [cap] relative standard deviation of that depth; 0 once it is seen under a wide
        enough angle.
    :ivar misfit: [cap] share of late in which the point was matched and did not fit, see :mod:`motion_check`.
    """

    def __init__(self, descriptor_dim):
        """:param descriptor_dim: D of the points' descriptors."""
        self.keyframes = []
        self.size = 0
        self.position = np.zeros((FIRST_CAPACITY, 3))
        self.descriptor = np.zeros((FIRST_CAPACITY, descriptor_dim), np.float32)
        self.alive = np.zeros(FIRST_CAPACITY, bool)
        self.observations = np.zeros(FIRST_CAPACITY, np.int64)
        self.visible = np.zeros(FIRST_CAPACITY, np.int64)
        self.found = np.zeros(FIRST_CAPACITY, np.int64)
        self.born = np.zeros(FIRST_CAPACITY, np.int64)
        self.anchor = np.zeros((FIRST_CAPACITY, 3))
        self.depth_sigma = np.zeros(FIRST_CAPACITY)
        self.misfit = np.zeros(FIRST_CAPACITY)

    _ARRAYS = (
        'position',
        'descriptor',
        'alive',
        'observations',
        'visible',
        'found',
        'born',
        'anchor',
        'depth_sigma',
        'misfit',
    )

    def ids(self):
        """Ids of all living points, ascending."""
        return np.flatnonzero(self.alive[: self.size])

    def add_points(self, positions, descriptors, keyframe, depth_sigma=0.0):
        """
        Create points without observations.

        :param positions: [N,3] in the world.
        :param descriptors: [N,D].
        :param keyframe: :class:`Frame` that makes them.
        :param depth_sigma: relative standard deviation of the depth from it, scalar or [N].
        :return: their ids [N].
        """
        n = len(positions)
        while self.size + n > len(self.alive):
            for name in self._ARRAYS:
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.zeros_like(array)]))
        ids = np.arange(self.size, self.size + n)
        self.size += n
        self.position[ids], self.descriptor[ids], self.born[ids] = positions, descriptors, keyframe.id
        self.anchor[ids], self.depth_sigma[ids] = keyframe.pose[:3, 3], depth_sigma
        self.alive[ids] = True
        self.observations[ids] = 0
        self.visible[ids] = self.found[ids] = 1
        return ids

    def observe(self, keyframe, rows, ids):
        """Record that ``keyframe``'s keypoints ``rows`` show the points ``ids``."""
        keyframe.point_ids[rows] = ids
        np.add.at(self.observations, ids, 1)

    def unobserve(self, keyframe, rows):
        """Forget what ``keyframe``'s keypoints ``rows`` show."""
        ids = keyframe.point_ids[rows]
        np.subtract.at(self.observations, ids, 1)
        keyframe.point_ids[rows] = -1

    def remove(self, ids):
        """Remove points and their observations."""
        if len(ids) == 0:
            return
        self.alive[ids] = False
        for keyframe in self.keyframes:
            seen = keyframe.point_ids
            seen[(seen >= 0) & ~self.alive[seen]] = -1

    def displacement(self, ids):
        """One sigma of the points' depths as vectors [N,3] in the world."""
        return (self.position[ids] - self.anchor[ids]) * self.depth_sigma[ids, None]

    def seen_by(self, keyframe):
        """Ids of the points a keyframe observes."""
        return keyframe.point_ids[keyframe.point_ids >= 0]

    def shared(self, ids):
        """How many of the points ``ids`` each keyframe observes, [K]."""
        wanted = np.zeros(self.size + 1, bool)  # the last is for keypoints without a point, id -1
        wanted[ids] = True
        return np.array([np.count_nonzero(wanted[k.point_ids]) for k in self.keyframes], np.int64)

    def drop_keyframe(self, keyframe):
        """Take a keyframe out; points that nothing else sees go too."""
        self.keyframes.remove(keyframe)
        self.unobserve(keyframe, np.flatnonzero(keyframe.point_ids >= 0))
        living = self.ids()
        self.remove(living[self.observations[living] == 0])
        keyframe.release()
        if self.size > 4 * FIRST_CAPACITY and self.alive[: self.size].mean() < 0.5:
            self.compact()

    def compact(self):
        """Renumber the points so that removed ones take no memory."""
        living = self.ids()
        new_id = np.full(self.size + 1, -1, np.int64)
        new_id[living] = np.arange(len(living))
        capacity = max(FIRST_CAPACITY, 2 * len(living))
        for name in self._ARRAYS:
            array = getattr(self, name)
            smaller = np.zeros((capacity, *array.shape[1:]), array.dtype)
            smaller[: len(living)] = array[living]
            setattr(self, name, smaller)
        self.size = len(living)
        for keyframe in self.keyframes:
            keyframe.point_ids = new_id[keyframe.point_ids]
