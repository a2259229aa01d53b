"""Two processes under torchrun do what one does with the same global batch."""

import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from mt_training.distributed import share  # noqa: E402
from mt_training.train import main  # noqa: E402
from tiny_experiment import (  # noqa: E402
    arguments,
    assert_same_weights,
    figures,
    start,
    tiny_config,
    write_config,
    write_data,
)

LOSSES = {'segmentation': {'cross_entropy': 1.0, 'lovasz': 0.5, 'ohem': 0.5}}
MORE = {'epochs': 1, 'sample_seeds': True, 'losses': LOSSES}
FIXED = [{'name': 'fixed', 'epochs': 1}, {'name': 'more', **MORE}]
SURGERY = [{'name': 'surgery', **MORE, 'weighting': {'kind': 'pcgrad'}}]


def test_shares_cover_the_batch():
    for total, count in ((5, 2), (7, 3), (3, 3)):
        parts = [share(total, i, count) for i in range(count)]
        assert parts[0][0] == 0 and parts[-1][1] == total
        assert all(a[1] == b[0] for a, b in zip(parts, parts[1:]))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    'stages',
    [pytest.param(FIXED, id='fixed'), pytest.param(SURGERY, id='pcgrad', marks=pytest.mark.slow)],
)
def test_two_processes_have_the_losses_of_one(stages, tmp_path):
    """
    Dropout, batch norm, losses over pairs, uneven shares (of 5, of 3), steps that leave heads unused.

    With PCGrad it is slow and an open matter: how closely the two can agree is not settled. Surgery turns
    gradients by the direction of the others, however small, and that of the places of a random network is
    mostly rounding.
    """
    torch.set_num_threads(1)
    (tmp_path / 'data').mkdir()
    data = write_data(tmp_path / 'data')
    config = tiny_config(stages=stages)
    # Adam's first steps go by the signs of gradients, so of those near 0 by their rounding; SGD's do not
    config['optimizer'].update(name='sgd', lr=0.02, encoder_lr=0.002)
    experiment = write_config(tmp_path / 'x.yaml', config)
    torchrun = [
        '-m',
        'torch.distributed.run',
        '--nproc-per-node',
        '2',
        '--standalone',
        '-m',
        'mt_training.train',
    ]
    done = start([*torchrun, *arguments(experiment, data, tmp_path / 'two')])
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('trained;') == 1, 'one process speaks'
    assert main(arguments(experiment, data, tmp_path / 'one')) == 0
    for version, stage in enumerate(stages):
        one, two = (figures(tmp_path / name, version) for name in ('one', 'two'))
        assert len(one) == len(two) > 3
        for step, (a, b) in enumerate(zip(one, two)):
            assert a.keys() == b.keys()
            # every step carries rounding on; before the first there is little
            tolerance = 5e-3 if 'weighting' in stage else 1e-3 if version or step else 1e-5
            for key in a:
                if key.endswith(('recall', 'match')):
                    continue  # which of near-equal descriptors is nearest hangs on the last digit
                assert b[key] == pytest.approx(a[key], rel=tolerance, abs=1e-6), (version, step, key)
    if stages is FIXED:
        first = [tmp_path / name / 'stages' / '0-fixed' / 'last.ckpt' for name in ('one', 'two')]
        assert_same_weights(*first, rtol=5e-4, atol=5e-4)  # the steps themselves are near 1e-2
