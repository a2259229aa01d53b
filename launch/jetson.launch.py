"""
The whole system on a Jetson: TensorRT in half precision, no window.

    ros2 launch mt_perception jetson.launch.py image:=/camera/image_raw

Takes the arguments of desktop.launch.py. The first start builds the TensorRT engines, which takes minutes.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

SHARE = get_package_share_directory('mt_perception')


def generate_launch_description():
    """Include desktop.launch.py with the Jetson's parameters."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'platform_params',
                default_value=os.path.join(SHARE, 'config', 'jetson.yaml'),
                description='YAML file of the platform, applied before params_file.',
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(os.path.join(SHARE, 'launch', 'desktop.launch.py'))
            ),
        ]
    )
