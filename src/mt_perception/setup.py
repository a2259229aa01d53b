"""Build description of mt_perception for colcon (ament_python)."""

from glob import glob

from setuptools import find_packages, setup

package_name = 'mt_perception'

# launch and config are links to the folders of the same names at the top of the repository.
setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test', 'test.*']),
    package_data={package_name: ['models/*', '**/*.html', '**/*.css', '**/*.js']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        (f'share/{package_name}/launch', glob('launch/*.launch.py')),
        (f'share/{package_name}/config', glob('config/*.*')),
    ],
    python_requires='>=3.10',
    install_requires=['setuptools'],
    extras_require={'test': ['pytest']},
    zip_safe=False,
    author='mt_perception maintainers',
    author_email='maintainers@mt-perception.example',
    maintainer='mt_perception maintainers',
    maintainer_email='maintainers@mt-perception.example',
    description='One network, four tasks, as ROS 2 topics; visual odometry on top.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'demo = mt_perception.demo.cli:main',
            'evaluate = mt_perception.evaluation.cli:main',
            'perception = mt_perception.nodes.perception:main',
            'sequence_player = mt_perception.nodes.sequence_player:main',
            'visual_odometry = mt_perception.nodes.visual_odometry:main',
        ],
    },
)
