"""The files in config/ say the same as the nodes."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

pytest.importorskip('rclpy', reason='no ROS 2 here')

from dataclasses import fields

from mt_perception.nodes.managed_node import COMMON_PARAMETERS
from mt_perception.nodes.odometry_parameters import odometry_parameters
from mt_perception.nodes.parameters import Parameter, ParameterError
from mt_perception.nodes.perception import PerceptionNode
from mt_perception.nodes.place_parameters import place_parameters
from mt_perception.nodes.place_recognition import PlaceRecognitionNode
from mt_perception.nodes.sequence_player import SequencePlayerNode
from mt_perception.nodes.visual_odometry import VisualOdometryNode
from mt_perception.odometry import OdometryParameters
from mt_perception.place_recognition import PlaceParameters

CONFIG = Path(__file__).resolve().parent.parent / 'config'
NODES = {
    'perception': PerceptionNode,
    'visual_odometry': VisualOdometryNode,
    'place_recognition': PlaceRecognitionNode,
    'sequence_player': SequencePlayerNode,
}


def parameters_of(path):
    """Return the parameters in a file."""
    content = yaml.safe_load(path.read_text())
    assert list(content) == ['/**']
    return content['/**']['ros__parameters']


@pytest.mark.parametrize('name', NODES)
def test_file_has_every_parameter_with_its_default(name):
    """No parameter is missing, none is unknown, and the defaults are the node's."""
    table = {entry.name: entry.default for entry in COMMON_PARAMETERS + NODES[name].PARAMETERS}
    written = parameters_of(CONFIG / f'{name}.yaml')
    assert written == table
    types = {key: type(value) for key, value in written.items()}
    assert types == {key: type(value) for key, value in table.items()}, 'ROS is strict about types'


@pytest.mark.parametrize('name', NODES)
def test_every_parameter_is_commented(name):
    """Somebody who reads the file needs no other page."""
    lines = (CONFIG / f'{name}.yaml').read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r'    [^\s#]', line):
            assert lines[number - 1].lstrip().startswith('#'), line


@pytest.mark.parametrize('name', ['jetson'])
def test_overrides_are_parameters_of_perception_or_odometry(name):
    """A misspelt name in an override file would be ignored without a word."""
    known = {entry.name: entry for node in NODES.values() for entry in COMMON_PARAMETERS + node.PARAMETERS}
    for key, value in parameters_of(CONFIG / f'{name}.yaml').items():
        assert known[key].convert(value) == value


def test_odometry_parameters_are_the_cores():
    """Every field of the core is a parameter, with its default inside its range."""
    table = {entry.name: entry for entry in odometry_parameters()}
    assert list(table) == [field.name for field in fields(OdometryParameters)]
    for field in fields(OdometryParameters):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert table[field.name].convert(default) == default


def test_place_parameters_are_the_cores():
    """Every field of the core is a parameter, with its default inside its range."""
    table = {entry.name: entry for entry in place_parameters()}
    assert list(table) == [field.name for field in fields(PlaceParameters)]
    for field in fields(PlaceParameters):
        assert table[field.name].convert(field.default) == field.default


class TestConvert:
    """Values users give."""

    rate = Parameter('rate', 10.0, 'Hz', 0.1, 100.0)
    mount = Parameter('mount', [0.0, 0.0, 1.0], 'pose', length=(3,))
    kind = Parameter('kind', 'a', 'kind', choices=('a', 'b'))
    names = Parameter('names', ['a'], 'names')

    def test_a_whole_number_is_a_number(self):
        """`rate:=10` is what people type."""
        assert self.rate.convert(10) == 10.0
        assert isinstance(self.rate.convert(10), float)
        assert self.mount.convert([0, 0, 1]) == [0.0, 0.0, 1.0]

    @pytest.mark.parametrize(
        ('entry', 'value', 'part'),
        [
            (rate, 'fast', "'rate' must be a number"),
            (rate, True, "'rate' must be a number"),
            (rate, 0, 'between 0.1 and 100'),
            (mount, [1.0, 2.0], 'must have 3 values'),
            (mount, ['x', 1, 2], 'list of numbers'),
            (kind, 'c', "one of 'a', 'b'"),
            (names, [1], 'list of texts'),
            (names, 'a', 'list of texts'),
        ],
    )
    def test_refused(self, entry, value, part):
        """What does not fit is named."""
        with pytest.raises(ParameterError, match=part):
            entry.convert(value)


def test_fastdds_profile():
    """The profile is XML, is the default one, and has room for images."""
    space = {'d': 'http://www.eprosima.com'}
    root = ElementTree.parse(CONFIG / 'fastdds.xml').getroot()
    kinds = {
        entry.find('d:type', space).text: entry for entry in root.iterfind('.//d:transport_descriptor', space)
    }
    assert set(kinds) == {'SHM', 'UDPv4'}
    assert int(kinds['SHM'].find('d:segment_size', space).text) == 64 * 2**20
    assert int(kinds['SHM'].find('d:maxMessageSize', space).text) == 8 * 2**20
    assert root.find('.//d:participant', space).get('is_default_profile') == 'true'
    used = {entry.text for entry in root.iterfind('.//d:userTransports/d:transport_id', space)}
    assert used == {entry.find('d:transport_id', space).text for entry in kinds.values()}


def test_rviz_shows_every_topic():
    """Each topic RViz has a display for is in the configuration."""
    text = (CONFIG / 'mt_perception.rviz').read_text()
    yaml.safe_load(text)
    for topic in (
        'image',
        'perception/segmentation',
        'perception/segmentation_color',
        'perception/depth',
        'visual_odometry/odometry',
        'visual_odometry/path',
        'visual_odometry/map_points',
        'place_recognition/path',
        'place_recognition/graph',
        'sequence_player/ground_truth',
    ):
        assert f'Value: {topic}\n' in text, topic
    assert 'rviz_default_plugins/TF' in text
