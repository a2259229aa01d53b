"""
The whole system on a workstation: perception, visual odometry and places on a camera, RViz on request.

    ros2 launch mt_perception desktop.launch.py image:=/camera/image_raw rviz:=true

The nodes configure and activate themselves; with autostart:=false they wait for a lifecycle manager.
jetson.launch.py and replay.launch.py include this file with other defaults.
"""

import os

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = get_package_share_directory('mt_perception')
STOP_S = '25'  # a node may be in the middle of building an engine when Ctrl-C comes
ARGUMENTS = [
    DeclareLaunchArgument(
        'image',
        default_value='image',
        description='Image topic; <image>/compressed is used when only that is published.',
    ),
    DeclareLaunchArgument(
        'camera_info',
        default_value='',
        description='CameraInfo topic; empty = camera_info beside the image topic.',
    ),
    DeclareLaunchArgument('namespace', default_value='', description='Namespace of all nodes and topics.'),
    DeclareLaunchArgument(
        'params_file',
        default_value='',
        description='YAML file with parameters of any of the nodes, applied after the ones of this package.',
    ),
    DeclareLaunchArgument(
        'model',
        default_value='',
        description='ONNX model of perception; empty = as in the parameter files (the one shipped).',
    ),
    DeclareLaunchArgument(
        'matcher',
        default_value='',
        choices=['', 'lightglue', 'nearest'],
        description='What matches keypoints; empty = as in the parameter files (lightglue).',
    ),
    DeclareLaunchArgument(
        'engine',
        default_value='',
        choices=['', 'auto', 'tensorrt', 'onnxruntime'],
        description='What runs the networks; empty = as in the parameter files.',
    ),
    DeclareLaunchArgument(
        'odometry', default_value='true', choices=['true', 'false'], description='Start visual odometry.'
    ),
    DeclareLaunchArgument(
        'places',
        default_value='true',
        choices=['true', 'false'],
        description='Start place recognition too, where there is odometry: loops, maps, map → odom.',
    ),
    DeclareLaunchArgument(
        'map', default_value='', description='Saved map to load at the start; empty = none.'
    ),
    DeclareLaunchArgument(
        'autostart',
        default_value='true',
        choices=['true', 'false'],
        description='Configure and activate the lifecycle nodes.',
    ),
    DeclareLaunchArgument(
        'required',
        default_value='true',
        choices=['true', 'false'],
        description='A node that ends with an error ends the whole launch, with status 1.',
    ),
    DeclareLaunchArgument(
        'use_sim_time',
        default_value='false',
        choices=['true', 'false'],
        description='Take the time from /clock.',
    ),
    DeclareLaunchArgument(
        'log_level',
        default_value='info',
        choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severity of log messages.',
    ),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'], description='Open RViz with every topic.'
    ),
    DeclareLaunchArgument(
        'platform_params',
        default_value='',
        description='YAML file of the platform, applied before params_file.',
    ),
]


def start_nodes(context):
    """Return the nodes, once the arguments are known."""
    value = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    for name in ('platform_params', 'params_file', 'model', 'map'):
        if value[name] and not os.path.isfile(value[name]):
            raise RuntimeError(f"{name} '{value[name]}' does not exist")
    if value['rviz'] == 'true':  # an exception after the first node would leave that one running
        try:
            get_package_share_directory('rviz2')
        except PackageNotFoundError:
            raise RuntimeError('rviz:=true needs the package rviz2, which is not installed') from None
    image, transport = value['image'], {}
    if image.endswith('/compressed'):
        image, transport = image.removesuffix('/compressed'), {'image_transport': 'compressed'}
    info = value['camera_info'] or os.path.join(os.path.dirname(image), 'camera_info')
    remappings = [('image', image), ('image/compressed', f'{image}/compressed'), ('camera_info', info)]
    switches = {'use_sim_time': value['use_sim_time'] == 'true', 'autostart': value['autostart'] == 'true'}

    def node(name, parameters, **given):
        files = [
            os.path.join(SHARE, 'config', f'{name}.yaml'),
            value['platform_params'],
            value['params_file'],
        ]
        parameters = {**switches, **parameters, **{key: text for key, text in given.items() if text}}
        return Node(
            package='mt_perception',
            executable=name,
            name=name,
            namespace=value['namespace'],
            parameters=[*filter(None, files), parameters],
            remappings=remappings,
            ros_arguments=['--log-level', value['log_level']],
            output='screen',
            sigterm_timeout=STOP_S,
        )

    nodes = [node('perception', transport, model=value['model'], engine=value['engine'])]
    if value['odometry'] == 'true':
        matcher, engine = value['matcher'], value['engine']
        nodes.append(node('visual_odometry', {}, matcher=matcher, engine=engine))
        if value['places'] == 'true':
            nodes.append(node('place_recognition', {}, matcher=matcher, engine=engine, map_file=value['map']))
    if value['rviz'] == 'true':
        nodes.append(
            Node(
                package='rviz2',
                executable='rviz2',
                namespace=value['namespace'],
                arguments=['-d', os.path.join(SHARE, 'config', 'mt_perception.rviz')],
                parameters=[{'use_sim_time': switches['use_sim_time']}],
                remappings=[('image', image)],
                output='log',
            )
        )
    if value['required'] == 'true':
        nodes.insert(0, RegisterEventHandler(OnProcessExit(on_exit=end_with_failed_node)))
    return nodes


def end_with_failed_node(event, context):
    """End the launch with status 1 when a node has ended with an error."""
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError(f'{event.process_name} has ended with status {event.returncode}')


def generate_launch_description():
    """Declare the arguments, set the DDS profile for images unless there is one, start the nodes."""
    profile = os.path.join(SHARE, 'config', 'fastdds.xml')
    # the second is the name that Humble knows, later versions warn about it
    names = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
    name = names[os.environ.get('ROS_DISTRO') == 'humble']
    is_set = any(os.environ.get(known) for known in names)
    return LaunchDescription(
        [
            *ARGUMENTS,
            *([] if is_set else [SetEnvironmentVariable(name, profile)]),
            OpaqueFunction(function=start_nodes),
        ]
    )
