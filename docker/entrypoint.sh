#!/bin/bash
# Runs a command with ROS 2 and the workspace of this image.
set -e
. "/opt/ros/$ROS_DISTRO/setup.bash"
. /workspace/install/local_setup.bash
exec "$@"
