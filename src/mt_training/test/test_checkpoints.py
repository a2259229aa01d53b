"""A run that is killed, wherever that happens, goes on with nothing lost but the current epoch."""

import signal

import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from pathlib import Path  # noqa: E402

from mt_perception.errors import MtError  # noqa: E402
from mt_training import checkpoints  # noqa: E402
from mt_training.train import main  # noqa: E402
from tiny_experiment import (  # noqa: E402
    arguments,
    assert_same_weights,
    load,
    shrink,
    start,
    tiny_config,
    write_config,
    write_data,
)

# trains like the command, but dies while the checkpoint of the second epoch is half written
KILLED_TRAINING = """
import os, signal, sys
from mt_training import checkpoints, train
from tiny_experiment import shrink
shrink()
whole, count = checkpoints.write_atomically, [0]
def write_atomically(path, write, keep_previous=False):
    def half(file):
        write(file)
        file.truncate(file.tell() // 2)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if os.path.basename(path) == 'last.ckpt':
        count[0] += 1
    whole(path, half if count[0] == 2 else write, keep_previous)
checkpoints.write_atomically = write_atomically
train.main(sys.argv[1:])
"""


@pytest.fixture(scope='module', autouse=True)
def small():
    """Train small networks in this file."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch.setattr)
        yield


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Train without interruption: (data, experiment, output)."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp('run')
    (root / 'data').mkdir()
    data = write_data(root / 'data')
    experiment = write_config(root / 'tiny.yaml', tiny_config())
    assert main(arguments(experiment, data, root / 'out')) == 0
    return data, experiment, root / 'out'


def test_a_kill_at_any_moment_of_writing_leaves_a_whole_checkpoint(tmp_path):
    done = start([Path(__file__).parent / 'killed_writer.py', tmp_path])
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    calls = [line for line in lines if line[0] == 'call']
    assert len(calls) >= 5 and lines[len(calls)][0] == 'whole', 'every system call was killed once'
    for kind, left, written in lines:
        # the new file may already be in place when the process dies before it says so
        assert int(left) in (int(written), int(written) + 1), f'{kind}: {left} is left of {written}'
    moments = [int(left) for kind, left, _ in lines if kind == 'moment']
    assert len(moments) == 12 and moments == sorted(moments) and moments[-1] > 12


def test_training_killed_while_it_writes_goes_on_to_the_same_result(run, tmp_path, capfd):
    data, experiment, reference = run
    done = start(['-c', KILLED_TRAINING, *arguments(experiment, data, tmp_path)])
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / 'last.ckpt.part').is_file(), 'it died with the file half written'
    assert load(tmp_path / 'last.ckpt')['epoch'] == 0, 'the epoch before is whole'
    assert main(arguments(experiment, data, tmp_path)) == 0
    assert not (tmp_path / 'last.ckpt.part').is_file()
    assert_same_weights(reference / 'last.ckpt', tmp_path / 'last.ckpt')


@pytest.mark.parametrize('hurt', ['truncated', 'zeros', 'missing'])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(run, hurt, tmp_path, capfd):
    data, experiment, reference = run
    for name in ('last.ckpt', 'last.previous.ckpt'):
        (tmp_path / name).write_bytes((reference / name).read_bytes())
    whole = (tmp_path / 'last.ckpt').read_bytes()
    if hurt == 'truncated':
        (tmp_path / 'last.ckpt').write_bytes(whole[: len(whole) // 2])
    elif hurt == 'zeros':  # what a file system may leave after a power failure
        middle = len(whole) // 2
        (tmp_path / 'last.ckpt').write_bytes(whole[:middle] + bytes(4096) + whole[middle + 4096 :])
    else:
        (tmp_path / 'last.ckpt').unlink()
    assert load(tmp_path / 'last.previous.ckpt')['epoch'] == 0
    assert main(arguments(experiment, data, tmp_path)) == 0
    assert 'going on from last.previous.ckpt' in capfd.readouterr().err
    assert_same_weights(reference / 'last.ckpt', tmp_path / 'last.ckpt')


def test_nothing_usable_is_said_in_one_sentence(tmp_path):
    assert checkpoints.usable_checkpoint(tmp_path / 'last.ckpt') is None
    (tmp_path / 'last.ckpt').write_bytes(b'no checkpoint')
    with pytest.raises(MtError, match='delete both to begin again'):
        checkpoints.usable_checkpoint(tmp_path / 'last.ckpt')


def test_without_hard_links_the_one_before_is_kept_too(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError('no links here')

    monkeypatch.setattr(checkpoints.os, 'link', refuse)
    for number in (1, 2):
        checkpoints.write_atomically(tmp_path / 'a.ckpt', lambda f, n=number: f.write(bytes([n])), True)
    assert (tmp_path / 'a.ckpt').read_bytes() == b'\2'
    assert (tmp_path / 'a.previous.ckpt').read_bytes() == b'\1'
    assert len(list(tmp_path.iterdir())) == 2


def test_best_and_last_are_kept(run):
    _, _, output = run
    assert {p.name for p in output.iterdir() if p.suffix == '.ckpt'} == {
        'last.ckpt',
        'last.previous.ckpt',
        'best.ckpt',
    }
    state = load(output / 'last.ckpt')['run']
    assert state['stage'] == 0 and state['finished'] and state['config']['epochs'] == 2
