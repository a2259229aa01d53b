"""Where the camera sits on the robot: from /tf_static, or from a parameter."""

import numpy as np

from mt_perception.errors import MtError
from mt_perception.nodes.parameters import UNCONFIGURED, Parameter
from mt_perception.nodes.static_transforms import StaticTransforms
from mt_perception.sequences.trajectory_io import poses_from_parts

MOUNT_PARAMETERS = (
    Parameter(
        'camera_to_base',
        [0.0, 0.0, 0.0, -0.5, 0.5, -0.5, 0.5],
        'Pose x y z qx qy qz qw of the optical frame in base_frame, used when /tf_static does not '
        'connect the two; the default looks ahead from the origin of the base.',
        length=(7,),
        change=UNCONFIGURED,
    ),
    Parameter(
        'tf_timeout',
        1.0,
        'Seconds the first frame waits for a static transform when somebody publishes /tf_static.',
        0.0,
        60.0,
        change=UNCONFIGURED,
    ),
)


class CameraMount:
    """
    The fixed pose of a camera on a robot, for a node with ``MOUNT_PARAMETERS``.

    :param node: the node that subscribes.
    """

    def __init__(self, node):
        self._node = node
        self._transforms = StaticTransforms(node)

    def find(self, base_frame, camera_frame, may_wait=True):
        """
        Return the [4,4] pose of the camera in the base.

        :param may_wait: for a transform that somebody publishes; not in the executor's thread.
        """
        expected = may_wait and self._transforms.expected()
        timeout = self._node.parameters.tf_timeout if expected else 0.0
        mount = self._transforms.wait(base_frame, camera_frame, timeout)
        if mount is None:
            self._node.get_logger().info(
                f"/tf_static does not connect '{base_frame}' and '{camera_frame}': "
                'parameter camera_to_base says where the camera is'
            )
            mount = mount_from_parameter(self._node.parameters)
        return mount

    def stop_waiting(self):
        """Wake whoever waits."""
        self._transforms.stop_waiting()

    def destroy(self):
        """Unsubscribe."""
        self._transforms.destroy()


def mount_from_parameter(parameters):
    """
    Return the parameter ``camera_to_base`` as [4,4].

    :raises MtError: its quaternion is zero.
    """
    values = parameters.camera_to_base
    if np.linalg.norm(values[3:]) < 1e-6:
        raise MtError("parameter 'camera_to_base' has a zero quaternion (its last four values)")
    return poses_from_parts([values[:3]], [values[3:]])[0]
