"""Pairs of images of one place, out of queries and references, read from disk as they are drawn."""

import numpy as np

from mt_perception.errors import MtError
from mt_training.data.augment import random_crop, warp_image
from mt_training.data.light import photometric
from mt_training.data.readers.images import read_rgb

POSITIVE_M = 10.0  # metres; as in NetVLAD's training
NEGATIVE_M = 25.0  # metres; what is nearer is no other place
TRIES = 50


class PlaceViews:
    """
    Draws a query and a reference of its place; the pairs of a batch are of different places.

    A sample has ``images`` [2,3,h,w] uint8, ``place`` int64 and ``position`` [2] float64 metres of the query
    (NaN where the set has no positions).

    :param places: :class:`mt_training.data.readers.places.Places`.
    :param size: (width, height) of the views.
    :param crop: range of the zoom of a view.
    :param strength: of the photometric changes.
    :param positive_m: metres within which a reference is a positive, where positions are known.
    :param negative_m: metres beyond which two queries are of different places.
    :raises MtError: no query has a positive.
    """

    only_places = True

    def __init__(
        self, places, size, crop=(1.0, 1.35), strength=1.3, positive_m=POSITIVE_M, negative_m=NEGATIVE_M
    ):
        self.places, self.size, self.crop, self.strength = places, tuple(size), tuple(crop), strength
        self.positive_m, self.negative_m = positive_m, negative_m
        self.positives = [self._positives(i) for i in range(len(places.queries))]
        self.usable = [i for i, positives in enumerate(self.positives) if len(positives)]
        if not self.usable:
            raise MtError(f'no query has a reference of its place within {positive_m:g} m')

    def _positives(self, query):
        near, places = self.places.positives[query], self.places
        if places.query_positions is None or not len(near):
            return near
        distance = np.linalg.norm(places.reference_positions[near] - places.query_positions[query], axis=1)
        return near[distance <= self.positive_m]

    def sample(self, rng, size=None):
        """Draw one pair."""
        return self._pair(rng, self.usable[int(rng.integers(len(self.usable)))])

    def batch(self, rng, count):
        """
        Draw ``count`` pairs of different places.

        :raises MtError: the set has not that many places.
        """
        chosen = []
        for _ in range(count):
            for _ in range(TRIES):
                query = self.usable[int(rng.integers(len(self.usable)))]
                if not any(self._same_place(query, other) for other in chosen):
                    break
            else:
                raise MtError(
                    f'a batch of {count} pairs needs as many places more than {self.negative_m:g} m apart, '
                    f'and this set of {len(self.usable)} queries has too few; make the batch smaller'
                )
            chosen.append(query)
        return [self._pair(rng, query) for query in chosen]

    def _same_place(self, one, other):
        positions = self.places.query_positions
        if positions is not None:
            return np.linalg.norm(positions[one] - positions[other]) <= self.negative_m
        return one == other or bool(np.intersect1d(self.positives[one], self.positives[other]).size)

    def _pair(self, rng, query):
        positives = self.positives[query]
        reference = positives[int(rng.integers(len(positives)))]
        views = []
        for path in (self.places.queries[query], self.places.references[reference]):
            image = read_rgb(path)
            matrix, _ = random_crop(rng, image.shape[1::-1], self.size, self.crop, max_rotation=0.08)
            view = warp_image(image, matrix, self.size)
            views.append(photometric(rng, view, self.strength) if self.strength else view)
        positions = self.places.query_positions
        return {
            'images': np.stack(views).transpose(0, 3, 1, 2),
            'place': np.int64(query),
            'position': np.full(2, np.nan) if positions is None else positions[query],
        }
