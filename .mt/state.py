"""What has been prepared already: a digest per stage, in a JSON file inside the environment."""

import hashlib
import json
import os
from pathlib import Path


class State:
    """
    Digests of the inputs of the stages that were completed.

    A stage is recorded when it is done, never before: an interrupted preparation goes on where it stopped.
    """

    def __init__(self, path):
        """Read the state kept at ``path``; a missing or damaged file means nothing was prepared."""
        self.path = Path(path)
        try:
            self.values = json.loads(self.path.read_text())
        except (OSError, ValueError):
            self.values = {}

    def is_current(self, stage, digest):
        """Whether ``stage`` was completed with inputs of this digest."""
        return self.values.get(stage) == digest

    def record(self, stage, value):
        """Keep ``value`` for ``stage``, written beside and renamed."""
        self.values[stage] = value
        beside = self.path.with_suffix('.new')
        beside.write_text(json.dumps(self.values, indent=1))
        os.replace(beside, self.path)


def digest_of(*parts):
    """
    Digest strings, and files and folders by name and content.

    :param parts: strings, or paths: a file counts with its content, a folder with all files below it.
    :return: hexadecimal string.
    """
    sha = hashlib.sha256()
    for part in parts:
        if not isinstance(part, Path):
            sha.update(str(part).encode() + b'\0')
            continue
        for file in sorted(part.rglob('*')) if part.is_dir() else [part]:
            if file.is_file() and '__pycache__' not in file.parts:
                sha.update(str(file).encode() + b'\0' + file.read_bytes() + b'\0')
    return sha.hexdigest()
