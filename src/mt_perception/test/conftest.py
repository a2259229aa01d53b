"""What several tests of this package share."""

import os
from pathlib import Path

import pytest

from mt_perception.sequences.rendered import RenderedSequence

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope='session')
def shared():
    """Return the folder with real data, or skip the test where it is not there."""
    folder = Path(os.environ.get('MT_SHARED', REPOSITORY.parent / 'shared'))
    if not (folder / 'data').is_dir():
        pytest.skip(f'no shared data at {folder} (set MT_SHARED)')
    return folder


@pytest.fixture(scope='session')
def street():
    """One rendered street for all tests that only look at it; making its textures takes seconds."""
    return RenderedSequence('street', 4, width=320, height=240)


@pytest.fixture(scope='session')
def room():
    """One rendered room."""
    return RenderedSequence('room', 4, width=320, height=240)
