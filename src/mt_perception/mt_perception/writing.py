"""Files that are there whole or not at all."""

import contextlib
import os
from pathlib import Path

from mt_perception.errors import MtError


@contextlib.contextmanager
def whole_file(path, failure=MtError):
    """
    Give a path beside ``path`` to write to, and rename it at the end; after an error it is gone.

    :param failure: class of the error when the file cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        raise failure(f"'{path}' cannot be written: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path, data):
    """Write ``data`` to a file that is there whole or not at all."""
    with whole_file(path) as beside:
        beside.write_bytes(data)
