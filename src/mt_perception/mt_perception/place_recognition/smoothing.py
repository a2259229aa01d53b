"""A transform between frames that moves to a new value without a jump."""

import numpy as np

from mt_perception.odometry.geometry import inverse, se3_exp, se3_log
from mt_perception.place_recognition.similarity import angle_of


class SmoothTransform:
    """
    The transform map ← odom of a robot whose place in the map is corrected now and then.

    What is limited is how fast the correction moves the robot, at the place where it is: far from the
    origin, a small turn of the transform moves it far.

    :param speed: metres (or units of the map) per second, 0 = at once.
    :param turn_rate: radians per second, 0 = at once.
    """

    def __init__(self, speed, turn_rate):
        self.speed = speed
        self.turn_rate = turn_rate
        self.value = np.eye(4)
        self._stamp = None

    def jump(self, value, stamp):
        """Take over a transform [4,4] at once, as when the robot has just found itself in an old map."""
        self.value = np.array(value, np.float64)
        self._stamp = stamp

    def update(self, target, robot, stamp):
        """
        Move towards a transform.

        :param target: [4,4] map ← odom as it should be.
        :param robot: [4,4] pose of the robot in odom.
        :param stamp: seconds; time that does not advance moves nothing.
        :return: [4,4] map ← odom as it is now.
        """
        elapsed = 0.0 if self._stamp is None else max(0.0, stamp - self._stamp)
        self._stamp = stamp
        present, wanted = self.value @ robot, target @ robot
        share = self._share(inverse(present) @ wanted, elapsed)
        if share >= 1:
            self.value = np.array(target, np.float64)
        elif share > 0:
            moved = np.eye(4)
            moved[:3, 3] = present[:3, 3] + share * (wanted[:3, 3] - present[:3, 3])
            turn = np.zeros(6)
            turn[3:] = share * se3_log(inverse(present) @ wanted)[3:]
            moved[:3, :3] = present[:3, :3] @ se3_exp(turn)[:3, :3]
            self.value = moved @ inverse(robot)
        return self.value

    def _share(self, step, elapsed):
        """How much of a step [4,4] may be taken in ``elapsed`` seconds, 0 to 1."""
        needed = 0.0
        for amount, rate in (
            (np.linalg.norm(step[:3, 3]), self.speed),
            (angle_of(step), self.turn_rate),
        ):
            if rate > 0:
                needed = max(needed, amount / rate)
        return 1.0 if needed <= elapsed else elapsed / needed
