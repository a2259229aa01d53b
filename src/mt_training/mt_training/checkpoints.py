"""
Checkpoints that survive a kill at any moment.

A checkpoint is written beside its place, brought to the disk, and renamed; the one before is kept as
``last.previous.ckpt``. A damaged file is noticed when a run starts, by the checksums inside it.
"""

import os
import shutil
import sys
import zipfile
from pathlib import Path

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from mt_perception.errors import MtError

PREVIOUS = '.previous'
PART = '.part'


def previous_of(path):
    """Return where the checkpoint before ``path`` is kept."""
    path = Path(path)
    return path.with_name(f'{path.stem}{PREVIOUS}{path.suffix}')


def sync_folder(folder):
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path, write, keep_previous=False):
    """
    Write a file so that ``path`` is at any moment the old file or the new one, whole.

    :param write: function that writes to an open binary file.
    :param keep_previous: keep the old one beside, see :func:`previous_of`.
    """
    path = Path(path)
    part = path.with_name(f'{path.name}{PART}')
    with open(part, 'wb') as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    if keep_previous and path.is_file():
        older = path.with_name(f'{path.name}.older{PART}')
        older.unlink(missing_ok=True)
        try:
            os.link(path, older)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, older)
        os.replace(older, previous_of(path))
    os.replace(part, path)
    sync_folder(path.parent)


def write_text(path, text):
    """Write a text file; it is there whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


class AtomicCheckpointIO(TorchCheckpointIO):
    """
    Writes the trainer's checkpoints with :func:`write_atomically`.

    :param keep_previous: names of the files whose predecessor is kept.
    """

    def __init__(self, keep_previous=('last.ckpt',)):
        super().__init__()
        self.keep_previous = keep_previous

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        """Write a checkpoint."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: torch.save(checkpoint, file), path.name in self.keep_previous)


def damage(path):
    """Say what is wrong with a checkpoint, or None: every part of it must have the checksum noted in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken:
            return f'its part {broken} is not what was written'
        torch.load(path, map_location='cpu', weights_only=False, mmap=True)
    except Exception as error:  # zipfile, pickle and torch raise a dozen types over damaged bytes
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def usable_checkpoint(last):
    """
    Return the checkpoint a run goes on from: ``last``, or where it is damaged the one before; None: begin.

    :param last: path of ``last.ckpt``.
    :raises MtError: there are checkpoints, and all are damaged.
    """
    last = Path(last)
    if not last.is_file() and not previous_of(last).is_file():
        return None
    reasons = []
    for path in (last, previous_of(last)):
        reason = damage(path) if path.is_file() else 'it is missing'
        if reason is None:
            if reasons:
                print(f'{reasons[0]}; going on from {path.name}, the one before', file=sys.stderr)
            return path
        reasons.append(f'the checkpoint {path} cannot be read ({reason})')
    raise MtError(f'{reasons[0]}, nor can {previous_of(last).name}; delete both to begin again')
