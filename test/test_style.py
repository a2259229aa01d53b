"""The formatter and the linter agree with every Python file of the repository."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    'command', [['check', '--output-format', 'concise'], ['format', '--check']], ids=' '.join
)
def test_ruff_finds_nothing(command):
    """`ruff check` and `ruff format --check`, as configured in pyproject.toml."""
    done = subprocess.run(
        [sys.executable, '-m', 'ruff', *command, str(ROOT)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
