"""Build description of mt_perception for colcon (ament_python)."""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

package_name = 'mt_perception'


def files(folder, pattern):
    """
    Return the files of ``launch`` or ``config``, which are links to folders at the top of the repository.

    Where links are not kept (an unpacked archive, git with core.symlinks=false), a file with the link's
    target is in their place.
    """
    place = Path(__file__).resolve().parent / folder  # not beside the link to this file that colcon makes
    target = place.read_text().strip() if place.is_file() else folder
    return glob(f'{target}/{pattern}')


setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test', 'test.*']),
    package_data={package_name: ['models/*', '**/*.html', '**/*.css', '**/*.js']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        (f'share/{package_name}/launch', files('launch', '*.launch.py')),
        (f'share/{package_name}/config', files('config', '*.*')),
    ],
    python_requires='>=3.10',
    install_requires=['setuptools'],
    extras_require={'test': ['pytest']},
    zip_safe=False,
    author='mt_perception maintainers',
    author_email='maintainers@mt-perception.example',
    maintainer='mt_perception maintainers',
    maintainer_email='maintainers@mt-perception.example',
    description='One network, four tasks, as ROS 2 topics; visual odometry and place recognition on top.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'demo = mt_perception.demo.cli:main',
            'evaluate = mt_perception.evaluation.cli:main',
            'perception = mt_perception.nodes.executables:perception',
            'place_recognition = mt_perception.nodes.executables:place_recognition',
            'sequence_player = mt_perception.nodes.executables:sequence_player',
            'visual_odometry = mt_perception.nodes.executables:visual_odometry',
        ],
    },
)
