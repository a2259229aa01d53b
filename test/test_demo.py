"""``./mt demo``: from one command to a page, with every node in between; and bad ends of all kinds."""

import html.parser
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here')

from mt_perception.demo.run import picture_indices

pytestmark = pytest.mark.dds

LIMIT_S = 200
FRAMES = 24


def demo(*arguments):
    """Run the demo as a process and return what it left: (status, stdout, stderr)."""
    command = [sys.executable, '-m', 'mt_perception.demo', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return done.returncode, done.stdout, done.stderr


def node_processes():
    """Return the command lines of all node processes started from here."""
    found = []
    for entry in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            command = entry.read_bytes().replace(b'\0', b' ').decode()
            environment = (entry.parent / 'environ').read_bytes()
        except OSError:
            continue
        if '-m mt_perception.nodes.' in command and f'MT_TEST={os.getpid()}'.encode() in environment:
            found.append(command)
    return found


@pytest.fixture(autouse=True)
def marked(monkeypatch):
    """Mark the environment, so that the test finds the processes it is to blame for."""
    monkeypatch.setenv('MT_TEST', str(os.getpid()))


class Page(html.parser.HTMLParser):
    """What a browser would load, and the text of the page."""

    def __init__(self, text):
        super().__init__()
        self.outside, self.images, self.sections, self.text = [], 0, [], ''
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note what is loaded."""
        attrs = dict(attrs)
        if tag == 'section':
            self.sections.append(attrs['id'])
        if tag == 'img':
            self.images += 1
        for name in ('src', 'href', 'srcset', 'data'):
            if attrs.get(name, '#')[:1] != '#' and not attrs[name].startswith('data:'):
                self.outside.append(attrs[name])

    def handle_data(self, data):
        """Collect text."""
        self.text += data


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    """One run on a short rendered sequence; it waits for a slow machine by itself."""
    from corner_model import write_corner_model

    folder = tmp_path_factory.mktemp('demo')
    model = write_corner_model(folder / 'corners.onnx')
    output = folder / 'out'
    arguments = ['--sequence', 'rendered:street', '--frames', f'0:{FRAMES}', '--model', model]
    status, out, err = demo(*arguments, '--matcher', 'nearest', '--pictures', '2', '--output', output)
    assert status == 0, out + err
    return output, out


def test_page_is_complete_and_self_contained(result):
    """All sections, all pictures inside, nothing loaded from anywhere."""
    output, out = result
    report = output / 'report.html'
    assert str(report) in out
    page = Page(report.read_text())
    assert page.outside == []
    assert page.sections == ['perception', 'matches', 'odometry', 'places', 'latency', 'facts']
    # 2 frames × 3 tasks, the depth scale, 2 pairs of matches, trajectory, places, latency, stages
    assert page.images == 6 + 1 + 2 + 4
    assert 'corners-1' in page.text
    assert 'onnxruntime' in page.text
    assert 'absolute trajectory error' in page.text


def test_numbers(result):
    """Every image went through, and the trajectory is the street's."""
    metrics = json.loads((result[0] / 'metrics.json').read_text())
    assert metrics['frames'] == metrics['frames_perceived'] == metrics['frames_with_odometry'] == FRAMES
    assert metrics['frames_tracked'] >= 0.85 * FRAMES, 'the first few images wait for parallax'
    assert metrics['odometry']['ate_rmse_sim3_m'] < 0.5
    assert metrics['odometry']['path_length_m'] == pytest.approx(0.7 * (FRAMES - 1), rel=0.05)
    assert 0 < metrics['end_to_end_ms']['p50'] <= metrics['end_to_end_ms']['p95'] < 60000
    assert metrics['odometry_end_to_end_ms']['p50'] > metrics['end_to_end_ms']['p50']
    assert {'preprocess', 'inference', 'postprocess', 'publish'} <= set(metrics['stage_ms']['perception'])
    assert 'match' in metrics['stage_ms']['visual_odometry']
    assert metrics['engine'].startswith('onnxruntime')
    assert metrics['machine']['processor']


def test_files(result):
    """The pictures lie beside the page, nothing is half written, no node is left."""
    output, _ = result
    names = {path.name for path in output.iterdir()}
    assert {
        'report.html',
        'metrics.json',
        'trajectory.png',
        'places.png',
        'latency.png',
        'stages.png',
    } <= names
    assert sum(name.startswith('frame_') for name in names) == 6
    assert sum(name.startswith('matches_') for name in names) == 2
    assert [name for name in names if 'part' in name] == []
    assert {path.name for path in (output / 'logs').iterdir()} == {
        'perception.log',
        'visual_odometry.log',
        'sequence_player.log',
    }
    assert node_processes() == []


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_in_the_middle(corner_model, street, tmp_path, number):
    """Ctrl-C while images flow: everything ends, and there is no page that claims to be one."""
    output = tmp_path / 'out'
    arguments = [
        '--sequence',
        street,
        '--rate',
        '1',
        '--model',
        corner_model,
        '--matcher',
        'nearest',
    ]
    command = [sys.executable, '-m', 'mt_perception.demo', *map(str, arguments), '--output', str(output)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    ) as process:
        try:
            seen = b''
            while b'playing' not in seen:  # the progress bar
                byte = os.read(process.stdout.fileno(), 4096)
                assert byte, seen.decode()
                seen += byte
            assert len(node_processes()) == 3
            os.killpg(process.pid, number)
            rest = process.stdout.read().decode()
            assert process.wait(60) == 130
        finally:
            process.kill()
    assert 'interrupted' in rest
    assert 'Traceback' not in rest
    deadline = time.monotonic() + 5
    while node_processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert node_processes() == []
    assert [path.name for path in output.rglob('*') if path.is_file()] == []


@pytest.mark.parametrize(
    ('arguments', 'part'),
    [
        (['--sequence', '/nowhere/at/all'], '/nowhere/at/all'),
        (['--sequence', 'rendered:moon'], 'moon'),
        (['--model', '/etc/hostname'], "model '/etc/hostname'"),
        (['--matcher-model', '/etc/hostname'], "model '/etc/hostname'"),
        (['--frames', 'seven'], 'seven'),
        (['--rate', '-3'], '--rate'),
        (['--output', '/proc/out'], "'/proc/out'"),
    ],
)
def test_bad_input_is_one_sentence(corner_model, street, arguments, part, tmp_path, capsys):
    """Status 1, one line on stderr, no page."""
    from mt_perception.demo.cli import main

    defaults = {'--sequence': street, '--model': corner_model, '--output': tmp_path / 'out'}
    defaults.update(zip(arguments[::2], arguments[1::2], strict=True))
    if '--matcher-model' not in defaults:
        defaults['--matcher'] = 'nearest'
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main([str(word) for pair in defaults.items() for word in pair]) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    err = capsys.readouterr().err
    assert part in err
    assert len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / 'out' / 'report.html').exists()


@pytest.mark.parametrize(
    ('frames', 'pictures', 'expected'),
    [(150, 5, [15, 45, 75, 105, 135]), (3, 5, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (10, 1, [5])],
)
def test_picture_indices(frames, pictures, expected):
    """Spread evenly, away from the ends."""
    assert picture_indices(frames, pictures) == expected
