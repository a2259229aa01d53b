"""
Run by test_checkpoints: write checkpoint 1, then 2 and on in a process that is killed; say what is left.

``killed_writer.py FOLDER``: kills before every system call that writing makes, then at random moments. Prints
one line per kill: what was killed, the number in the usable checkpoint, the number last written whole.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from mt_training import checkpoints

CALLS = ('open', 'fsync', 'link', 'replace')


def save(number, last):
    checkpoints.AtomicCheckpointIO().save_checkpoint({'n': number, 'w': torch.full((50_000,), number)}, last)


def kill_before(count):
    """Make the system call number ``count`` of the writing the last thing that never happens."""
    left = [count]

    def guard(function):
        def call(*args, **kwargs):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return function(*args, **kwargs)

        return call

    class System:
        def __getattr__(self, name):
            value = getattr(os, name)
            return guard(value) if name in CALLS else value

    checkpoints.os = System()


def in_child(action):
    """Run ``action`` in a forked process; return whether it was killed."""
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def left_over(last):
    """Return the number in the checkpoint a run would go on from; all of its values must be that number."""
    state = torch.load(checkpoints.usable_checkpoint(last), weights_only=False)
    assert (state['w'] == state['n']).all()
    return state['n']


def main(folder):
    count, killed = 0, True
    while killed:
        last = folder / f'call{count}' / 'last.ckpt'
        save(1, last)
        save(2, last)
        killed = in_child(lambda count=count, last=last: (kill_before(count), save(3, last)))
        print('call' if killed else 'whole', left_over(last), 2 if killed else 3)
        count += 1
    last, rng = folder / 'moments' / 'last.ckpt', random.Random(0)
    save(0, last)
    for _ in range(12):
        start = left_over(last)
        child = os.fork()
        if child == 0:
            for number in range(start + 1, start + 10_000):
                save(number, last)
                with open(folder / 'written', 'a') as log:
                    log.write(f'{number}\n')
        time.sleep(0.02 + 0.1 * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        log = folder / 'written'
        written = log.read_text().rpartition('\n')[0].split('\n')[-1] if log.exists() else ''
        print('moment', left_over(last), int(written or start))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
