"""Keyframes found by what the whole image looks like."""

import numpy as np

from mt_perception.errors import ModelError

FIRST_CAPACITY = 256


class DescriptorIndex:
    """
    Exact search among unit vectors: one matrix-vector product, 2 ms for 10 000 descriptors of 512 elements.

    :ivar model_id: which network made the descriptors; None while there are none.
    """

    def __init__(self):
        """Start empty."""
        self.model_id = None
        self._vectors = np.zeros((0, 0), np.float32)
        self._size = 0

    def __len__(self):
        """Return the number of descriptors."""
        return self._size

    def check(self, model_id, dimension):
        """
        Refuse what cannot be compared with the descriptors here.

        :raises ModelError: another network's descriptor.
        """
        if self._size and (model_id != self.model_id or dimension != self._vectors.shape[1]):
            raise ModelError(
                f"the map is made of descriptors of model '{self.model_id}' with {self._vectors.shape[1]} "
                f"elements, an image of model '{model_id}' with {dimension} cannot be looked up in it: use "
                'the same model, or make a new map'
            )

    def add(self, model_id, descriptor):
        """
        Append one descriptor [G] of unit length; its number is the length before.

        :raises ModelError: as :meth:`check`.
        """
        self.check(model_id, len(descriptor))
        if self._size == 0:
            self.model_id = model_id
            self._vectors = np.zeros((FIRST_CAPACITY, len(descriptor)), np.float32)
        elif self._size == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        self._vectors[self._size] = descriptor
        self._size += 1

    def descriptor(self, number):
        """Descriptor [G] by its number."""
        return self._vectors[number]

    def similarity(self, descriptor):
        """Cosine [N] of a unit descriptor [G] with each here."""
        if self._size == 0:
            return np.zeros(0, np.float32)
        return self._vectors[: self._size] @ np.asarray(descriptor, np.float32)

    def search(self, model_id, descriptor, count, allowed=None, min_similarity=-1.0):
        """
        Find the most similar ones.

        :param descriptor: [G], unit length.
        :param count: at most as many.
        :param allowed: [N] bool, which may be found; None = all.
        :param min_similarity: smallest cosine.
        :return: (numbers [K], cosines [K]), the most similar first, of equal ones the older first.
        :raises ModelError: as :meth:`check`.
        """
        self.check(model_id, len(descriptor))
        cosine = self.similarity(descriptor)
        usable = cosine >= min_similarity
        if allowed is not None:
            usable &= allowed
        rows = np.flatnonzero(usable)
        best = rows[np.argsort(-cosine[rows], kind='stable')[:count]]
        return best, cosine[best]
