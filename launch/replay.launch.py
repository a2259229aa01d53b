"""
The whole system on a recorded or rendered sequence instead of a camera.

    ros2 launch mt_perception replay.launch.py sequence:=/data/kitti/03 rviz:=true

Takes the arguments of desktop.launch.py too. The sequence's stamps are the time (/clock), and the launch ends
with the sequence unless loop:=true or shutdown:=false.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = get_package_share_directory('mt_perception')
ARGUMENTS = [
    DeclareLaunchArgument(
        'sequence',
        default_value='rendered:street',
        description='KITTI, RGB-D, TUM, EuRoC, images, video, rosbag2, or rendered:SCENE[:SEED][:VARIANT].',
    ),
    DeclareLaunchArgument(
        'frames', default_value='', description='Part of the sequence, FIRST:END; empty = all.'
    ),
    DeclareLaunchArgument(
        'rate', default_value='0.0', description="Images per second; 0 = as the sequence's stamps say."
    ),
    DeclareLaunchArgument(
        'loop', default_value='false', choices=['true', 'false'], description='Begin again at the end.'
    ),
    DeclareLaunchArgument(
        'shutdown',
        default_value='true',
        choices=['true', 'false'],
        description='End everything with the sequence.',
    ),
    DeclareLaunchArgument(
        'use_sim_time',
        default_value='true',
        choices=['true', 'false'],
        description="Take the time from /clock, which the player publishes with the sequence's stamps.",
    ),
]


def check_arguments(context):
    """Say what is wrong before any node is started: an exception later would leave the others running."""
    rate = LaunchConfiguration('rate').perform(context)
    try:
        float(rate)
    except ValueError:
        raise RuntimeError(f"rate must be a number, it is '{rate}'") from None


def start_player(context):
    """Return the player, once the arguments are known."""
    names = ('sequence', 'frames', 'rate', 'loop', 'shutdown', 'use_sim_time', 'image', 'camera_info')
    value = {name: LaunchConfiguration(name).perform(context) for name in names}
    odometry, places = (
        LaunchConfiguration(name).perform(context) == 'true' for name in ('odometry', 'places')
    )
    image = value['image'].removesuffix('/compressed')
    info = value['camera_info'] or os.path.join(os.path.dirname(image), 'camera_info')
    player = Node(
        package='mt_perception',
        executable='sequence_player',
        name='sequence_player',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            {
                'sequence': value['sequence'],
                'frames': value['frames'],
                'rate': float(value['rate']),
                'loop': value['loop'] == 'true',
                'publish_clock': value['use_sim_time'] == 'true',
                'image_transport': 'compressed' if value['image'].endswith('/compressed') else 'raw',
                'wait_for_info_subscribers': 1 + odometry + (odometry and places),
            }
        ],
        remappings=[('image', image), ('image/compressed', f'{image}/compressed'), ('camera_info', info)],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
    )
    ends = RegisterEventHandler(
        OnProcessExit(
            target_action=player, on_exit=[EmitEvent(event=Shutdown(reason='the sequence is over'))]
        )
    )
    return [*([ends] if value['shutdown'] == 'true' else []), player]


def generate_launch_description():
    """Include desktop.launch.py and start the player beside it."""
    return LaunchDescription(
        [
            *ARGUMENTS,
            OpaqueFunction(function=check_arguments),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(os.path.join(SHARE, 'launch', 'desktop.launch.py'))
            ),
            OpaqueFunction(function=start_player),
        ]
    )
