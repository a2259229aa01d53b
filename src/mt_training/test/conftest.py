"""Fixtures of the tests of mt_training."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope='session')
def shared():
    """Folder of the development data, $MT_SHARED or beside the repository; without it the test is skipped."""
    folder = Path(os.environ.get('MT_SHARED', REPOSITORY.parent / 'shared'))
    if not (folder / 'data').is_dir():
        pytest.skip(f'needs the development data, and {folder} is not there (set MT_SHARED)')
    return folder
