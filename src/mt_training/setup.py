"""Build description of mt_training for colcon (ament_python)."""

from setuptools import find_packages, setup

package_name = 'mt_training'

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test', 'test.*']),
    package_data={package_name: ['configs/*.yaml', 'weights/*', 'packaging/*.md']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
    ],
    python_requires='>=3.10',
    install_requires=['setuptools'],
    extras_require={'test': ['pytest']},
    zip_safe=False,
    author='mt_perception maintainers',
    author_email='maintainers@mt-perception.example',
    maintainer='mt_perception maintainers',
    maintainer_email='maintainers@mt-perception.example',
    description='Training, evaluation and export of the networks that mt_perception runs.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'benchmark = mt_training.benchmark:main',
            'build_engine = mt_training.build_engine:main',
            'convert_mapillary = mt_training.convert_mapillary:main',
            'distill = mt_training.distill:main',
            'evaluate = mt_training.evaluation.cli:main',
            'export = mt_training.export:main',
            'package = mt_training.package:main',
            'panoptic = mt_training.panoptic:main',
            'predict = mt_training.predict:main',
            'prune = mt_training.prune:main',
            'pseudo_label = mt_training.pseudo_label:main',
            'quantize = mt_training.quantize:main',
            'speed = mt_training.speed:main',
            'train = mt_training.train:main',
        ],
    },
)
