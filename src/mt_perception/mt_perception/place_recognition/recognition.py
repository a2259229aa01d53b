"""Places seen before: finding them, checking them, and correcting the map by them."""

from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from mt_perception.place_recognition.database import DescriptorIndex
from mt_perception.place_recognition.localization import Localizer
from mt_perception.place_recognition.loops import Loop, SequenceConsistency
from mt_perception.place_recognition.map_file import load_map, save_map
from mt_perception.place_recognition.map_graph import MapGraph
from mt_perception.place_recognition.parameters import PlaceParameters
from mt_perception.place_recognition.similarity import angle_of
from mt_perception.place_recognition.verification import Verifier


@dataclass
class Addition:
    """
    What a new keyframe brought.

    :param number: of the keyframe.
    :param candidates: keyframes it was compared with.
    :param verified: how many of them show the same place.
    :param loops: :class:`Loop` that count from now on.
    :param corrected: poses of the map have changed.
    :param timings_ms: milliseconds per stage.
    """

    number: int
    candidates: int = 0
    verified: int = 0
    loops: list = field(default_factory=list)
    corrected: bool = False
    timings_ms: dict = field(default_factory=dict)


class PlaceRecognition:
    """
    A map of keyframes that grows with odometry and is corrected where a place is seen again.

    No ROS, no threads; the same keyframes give the same map.

    :param matcher: :class:`mt_perception.matching.base.Matcher`.
    :param parameters: :class:`PlaceParameters`.
    :ivar graph: :class:`MapGraph` with all keyframes, poses and loops.
    """

    def __init__(self, matcher, parameters=None):
        self.parameters = parameters or PlaceParameters()
        self.verifier = Verifier(matcher, self.parameters)
        self._localizer = Localizer(matcher, self.parameters)
        self.clear()

    def clear(self):
        """Forget everything."""
        self.graph = MapGraph(self.parameters)
        self._index = DescriptorIndex()
        self._consistency = SequenceConsistency(self.parameters)

    @property
    def model_id(self):
        """Which network made the descriptors of the map; None while it is empty."""
        return self._index.model_id

    # ---------------------------------------------------------------- growing

    def add(self, keyframe):
        """
        Take odometry's next keyframe; one that is older than the last starts a new run, see :meth:`restart`.

        :param keyframe: :class:`Keyframe` with a :class:`View`.
        :return: :class:`Addition`.
        :raises ModelError: keypoints or descriptors of another model than the map's.
        """
        start = perf_counter()
        self._index.check(keyframe.view.model_id, len(keyframe.view.global_descriptor))
        newest = self.graph.newest
        if newest is not None and keyframe.stamp <= self.graph.keyframes[newest].stamp:
            self.restart()
        number = self.graph.append(keyframe)
        self._index.add(keyframe.view.model_id, keyframe.view.global_descriptor)
        out = Addition(number)
        verified = self._search(number, out)
        found = perf_counter()
        out.loops = self._consistency.feed(verified, number, lambda k: self.graph.keyframes[k].pose)
        out.corrected = self.graph.close(out.loops)
        self._forget_redundant(out.loops)
        out.timings_ms = {'search': (found - start) * 1e3, 'pose_graph': (perf_counter() - found) * 1e3}
        return out

    def _search(self, number, out):
        """Return the verified :class:`Loop` of a new keyframe with the most inliers, as a list."""
        p, keyframes = self.parameters, self.graph.keyframes
        view = keyframes[number].view
        numbers, scores = self._index.search(
            view.model_id, view.global_descriptor, p.candidates, self._searchable(number), p.min_similarity
        )
        out.candidates = len(numbers)
        verified = []
        for other, score in zip(numbers, scores):
            relation = self.verifier.verify(keyframes[other].view, view)
            if relation is not None:
                verified.append(Loop(int(other), number, float(score), relation))
        out.verified = len(verified)
        return sorted(verified, key=lambda loop: -loop.relation.inliers)[:1]

    def _searchable(self, number):
        """Which keyframes may close a loop with a new one, [N] bool: not those just passed."""
        p, keyframes = self.parameters, self.graph.keyframes
        out = np.array([keyframe.view is not None for keyframe in keyframes])
        for k in range(number, -1, -1):
            if keyframes[k].fixed:
                break
            recent = abs(keyframes[number].stamp - keyframes[k].stamp) < p.exclude_s
            if recent or k >= number - p.exclude_keyframes:
                out[k] = False
        return out

    def _forget_redundant(self, loops):
        """Drop the keypoints of keyframes that an earlier one shows just as well: memory is bounded."""
        p, keyframes = self.parameters, self.graph.keyframes
        for loop in loops:
            relation = loop.relation
            near = np.linalg.norm(relation.transform[:3, 3]) < p.redundant_share * relation.distance
            alike = angle_of(relation.transform) < np.radians(p.redundant_angle_deg)
            if near and alike and keyframes[loop.earlier].view is not None:
                keyframes[loop.later] = replace(keyframes[loop.later], view=None)

    # ---------------------------------------------------------------- maps

    def save(self, path):
        """
        Write the map: this run's keyframes, and the loaded ones once both are in one frame.

        :param path: file, see :mod:`mt_perception.place_recognition.map_file`.
        :return: how many keyframes were written.
        :raises MapError: no keyframes, or the file cannot be written.
        """
        keyframes = self.graph.rest(saved=self.graph.located)
        save_map(path, keyframes)
        return len(keyframes)

    def load(self, path, model_id=None):
        """
        Take up a saved map in place of the one loaded before; keyframes of this run are kept.

        The frame ``map`` becomes the saved map's as soon as a loop to it counts; until then
        ``graph.located`` is False.

        :param model_id: of the images to come, None = as this run's keyframes.
        :return: how many keyframes it has.
        :raises MapError: see :func:`load_map`; nothing has changed then.
        """
        self._rest_on(load_map(path, model_id or (self.model_id if self.graph.own else None)))
        return len(self.graph.keyframes) - len(self.graph.own)

    def restart(self):
        """
        Begin a new run in the map of the last one, as after a reset of odometry.

        What the last run has mapped rests from now on, and the new run finds itself in it by a loop. Of a run
        that has not found itself in a loaded map, only that map is kept.
        """
        keyframes = self.graph.rest(own=self.graph.located)
        self.graph = MapGraph(self.parameters)
        self._rest_on(keyframes)

    def _rest_on(self, keyframes):
        """Put keyframes of a saved map below this run's."""
        before, own = self._index, self.graph.own
        self.graph.replace_saved(keyframes)
        self._index = DescriptorIndex()
        for keyframe in keyframes:
            self._index.add(keyframe.view.model_id, keyframe.view.global_descriptor)
        for number in own:
            self._index.add(before.model_id, before.descriptor(number))
        self._consistency = SequenceConsistency(self.parameters)

    def localize(self, view):
        """
        Find where an image was taken, without knowing anything else.

        :param view: :class:`View`.
        :return: :class:`mt_perception.place_recognition.localization.Localization` in the frame ``map``: of
            the loaded map if there is one, else of this run's; None when the place is not known.
        :raises ModelError: an image of another model than the map's.
        """
        located = self.graph.located
        allowed = np.array([k.view is not None and (located or k.fixed) for k in self.graph.keyframes], bool)
        numbers, scores = self._index.search(
            view.model_id, view.global_descriptor, self.parameters.localize_candidates, allowed
        )
        return self._localizer.localize(view, list(zip(numbers, scores)), self.graph)
