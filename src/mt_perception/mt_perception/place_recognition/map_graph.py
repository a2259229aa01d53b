"""The poses of all keyframes: of this run, held together by odometry and loops, and of a saved map."""

from dataclasses import replace

import numpy as np

from mt_perception.odometry.geometry import inverse
from mt_perception.place_recognition.odometry_edges import odometry_edge
from mt_perception.place_recognition.pose_graph import agrees, optimize, refine
from mt_perception.place_recognition.sim3_factors import Edge
from mt_perception.place_recognition.similarity import interpolate, invert, rigid, scale_of

AT_REST, ANYWHERE, ANY_SCALE = 1e-4, 1e6, 1.0  # standard deviations of what holds a map in its place


class MapGraph:
    """
    Keyframes with corrected poses.

    Two frames: ``odom`` is odometry's, in which keyframes come; ``map`` is that of the corrected poses. They
    are the same until the first loop, or until the camera has found itself in a saved map.

    :param parameters: :class:`PlaceParameters`.
    :ivar keyframes: list of :class:`Keyframe`; those of a saved map come first and are ``fixed``.
    :ivar poses: list of [4,4] similarities, camera to ``map``, of each keyframe.
    :ivar loops: all :class:`Loop` that were accepted, as they were found.
    :ivar right: which of them the poses agree with, list of bool.
    :ivar located: this run's keyframes are in one frame with those of the saved map; True without one.
    """

    def __init__(self, parameters):
        self.parameters = parameters
        self.keyframes, self.poses, self.loops, self.right = [], [], [], []
        self.located = True
        self._edges = []

    @property
    def newest(self):
        """Number of this run's newest keyframe, None before the first."""
        return len(self.keyframes) - 1 if self.keyframes and not self.keyframes[-1].fixed else None

    @property
    def own(self):
        """Numbers of this run's keyframes."""
        return [number for number, keyframe in enumerate(self.keyframes) if not keyframe.fixed]

    def append(self, keyframe):
        """Take odometry's next :class:`Keyframe`; return its number."""
        number, previous = len(self.keyframes), self.newest
        pose = keyframe.pose.copy()
        if previous is not None:
            edge = odometry_edge(self.keyframes[previous], keyframe, (previous, number), self.parameters)
            self._edges.append(edge)
            pose = self.poses[previous] @ edge.transform
        self.keyframes.append(keyframe)
        self.poses.append(pose)
        return number

    # ---------------------------------------------------------------- loops

    def close(self, loops):
        """
        Take accepted loops and correct the poses by them; a loop may still turn out wrong.

        Loops that agree with the map as it is only refine it; others are weighed against all.

        :param loops: list of :class:`Loop`.
        :return: whether poses have changed.
        """
        if not loops:
            return False
        known = self.located and any(self.right)
        self.loops += loops
        self.right += [True] * len(loops)
        bound = self.parameters.loop_confidence
        if known and agrees(self.poses, [self._edge(loop) for loop in loops], bound).all():
            self._take(self._solve(self._connected(), refining=True))
            return True
        return self.optimize()

    def optimize(self):
        """
        Solve the pose graph anew, all loops in doubt.

        :return: whether poses have changed.
        """
        bridges = [loop for loop in self.loops if self.keyframes[loop.earlier].fixed]
        if bridges:
            solved = self._solve(self.loops)
            right = solved[2]
            if any(ok and self.keyframes[loop.earlier].fixed for ok, loop in zip(right, self.loops)):
                self._take(solved)
                self.located = True
                return True
        own = self._connected()
        if (bridges and self.located) or not own:
            return False
        self._take(self._solve(own))
        return True

    def _connected(self):
        """The loops that may be used: those to a saved map only once the run has found itself in it."""
        return [loop for loop in self.loops if self.located or not self.keyframes[loop.earlier].fixed]

    def _edge(self, loop, place=None):
        """Return a :class:`Loop` as an :class:`Edge`, with other numbers if ``place`` gives them."""
        first, second = loop.earlier, loop.later
        if place is not None:
            first, second = place[first], place[second]
        return Edge(first, second, loop.relation.transform, loop.relation.covariance)

    def _solve(self, loops, refining=False):
        """Return (numbers of keyframes, their poses, which of ``self.loops`` are right)."""
        used = sorted({number for loop in loops for number in (loop.earlier, loop.later)} | set(self.own))
        place = {number: k for k, number in enumerate(used)}
        poses = np.stack([self.poses[number] for number in used])
        own = np.array([not self.keyframes[number].fixed for number in used])
        if not self.located and not own.all():
            loop = max(
                (loop for loop in loops if self.keyframes[loop.earlier].fixed),
                key=lambda loop: loop.relation.inliers,
            )
            move = self.poses[loop.earlier] @ loop.relation.transform @ invert(self.poses[loop.later])
            poses[own] = move @ poses[own]
        edges = [
            Edge(place[edge.first], place[edge.second], edge.transform, edge.covariance)
            for edge in self._edges
        ]
        closing = [self._edge(loop, place) for loop in loops]
        fixed, others = np.flatnonzero(~own), []
        if own.all():
            fixed, others = [len(used)], anchors([self.keyframes[number].pose for number in used])
            poses = np.concatenate([poses, np.eye(4)[None]])
        p = self.parameters
        if refining:
            before = {id(loop): ok for loop, ok in zip(self.loops, self.right)}
            trusted = [before[id(loop)] for loop in loops]
            result = refine(poses, fixed, edges, closing, trusted, p.loop_confidence, others)
        else:
            support = p.consistent_keyframes, p.consistency_window
            result = optimize(poses, fixed, edges, closing, p.loop_confidence, *support, others)
        now = {id(loop): ok for loop, ok in zip(loops, result.right.tolist())}
        return used, result.poses, [now.get(id(loop), False) for loop in self.loops]

    def _take(self, solved):
        """Take over what :meth:`_solve` has found."""
        used, poses, self.right = solved
        for number, pose in zip(used, poses):  # the origin is none of them
            if not self.keyframes[number].fixed:
                self.poses[number] = pose

    # ---------------------------------------------------------------- saved maps

    def replace_saved(self, keyframes):
        """
        Put the keyframes of a saved map in place of those before; this run's stay, their loops to it do not.

        :param keyframes: list of :class:`Keyframe`, ``fixed``.
        """
        own = self.own
        place = {number: len(keyframes) + k for k, number in enumerate(own)}
        kept = [(loop, ok) for loop, ok in zip(self.loops, self.right) if loop.earlier in place]
        self.right = [ok for _, ok in kept]
        self.loops = [loop.renumbered(place) for loop, _ in kept]
        self._edges = [
            Edge(place[edge.first], place[edge.second], edge.transform, edge.covariance)
            for edge in self._edges
        ]
        self.poses = [keyframe.pose.copy() for keyframe in keyframes] + [self.poses[k] for k in own]
        self.keyframes = list(keyframes) + [self.keyframes[k] for k in own]
        self.located = not keyframes

    def rest(self, own=True, saved=True):
        """
        Return keyframes as those of a saved map, ``fixed``, with their corrected poses.

        Only those that still have keypoints.

        :param own: with this run's.
        :param saved: with those of the saved map.
        """
        out = []
        for keyframe, pose in zip(self.keyframes, self.poses):
            if keyframe.view is None or not (saved if keyframe.fixed else own):
                continue
            if not keyframe.fixed:
                view = keyframe.view.scaled(scale_of(pose))
                keyframe = replace(keyframe, pose=rigid(pose), view=view, fixed=True)
            out.append(keyframe)
        return out

    # ---------------------------------------------------------------- results

    def correction(self):
        """Similarity [4,4] that carries poses near odometry's newest keyframe from ``odom`` to ``map``."""
        newest = self.newest
        return np.eye(4) if newest is None else self.poses[newest] @ inverse(self.keyframes[newest].pose)

    def path(self):
        """Return (stamps [K], poses [K,4,4] camera to ``map``) of this run's keyframes."""
        own = self.own
        stamps = np.array([self.keyframes[k].stamp for k in own])
        return stamps, np.array([rigid(self.poses[k]) for k in own]).reshape(-1, 4, 4)

    def correct(self, stamps, poses):
        """
        Carry poses of odometry over to the map, each by the corrections of the keyframes around it.

        :param stamps: [N] seconds.
        :param poses: [N,4,4] camera to ``odom``.
        :return: [N,4,4] camera to ``map``.
        """
        own = self.own
        if not own:
            return np.array(poses, np.float64).reshape(-1, 4, 4)
        known = np.array([self.keyframes[k].stamp for k in own])
        moves = [self.poses[k] @ inverse(self.keyframes[k].pose) for k in own]
        out = []
        for stamp, pose in zip(stamps, poses):
            right = min(max(int(np.searchsorted(known, stamp)), 1), max(len(own) - 1, 1))
            left, right = right - 1, min(right, len(own) - 1)
            gap = known[right] - known[left]
            share = float(np.clip((stamp - known[left]) / gap, 0, 1)) if gap > 0 else 0.0
            out.append(rigid(interpolate(moves[left], moves[right], share) @ pose))
        return np.array(out).reshape(-1, 4, 4)


def anchors(poses):
    """
    Return edges from the origin, a pose after the last, that fix the first of ``poses`` and the mean scale.

    Which keyframe's unit is the right one nobody knows: their geometric mean stays what it is.

    :param poses: list of [4,4] of odometry.
    """
    out = []
    for k, pose in enumerate(poses):
        sigma = np.full(7, AT_REST if k == 0 else ANYWHERE)
        sigma[6] = ANY_SCALE
        out.append(Edge(len(poses), k, pose, np.diag(sigma**2)))
    return out
