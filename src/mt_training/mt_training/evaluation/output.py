"""The folder an evaluation writes to; files are written beside their place and renamed, never half."""

import json
import math
import os
from pathlib import Path

import cv2
import numpy as np

from mt_perception.errors import EvaluationError


class OutputFolder:
    """
    Folder of one evaluation's results.

    :param path: made when it is not there.
    :raises EvaluationError: it cannot be made or written to.
    """

    def __init__(self, path):
        self.path = Path(path).expanduser()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EvaluationError(f"output folder '{self.path}' cannot be made: {error.strerror}") from error
        if not os.access(self.path, os.W_OK):
            raise EvaluationError(f"output folder '{self.path}' cannot be written to")

    def write_metrics(self, metrics):
        """Write ``metrics.json``; values that are not numbers become null."""
        text = json.dumps(plain(metrics), indent=2, ensure_ascii=False, allow_nan=False) + '\n'
        return self._write('metrics.json', lambda path: path.write_text(text, encoding='utf-8'))

    def write_csv(self, name, rows):
        """
        Write a table.

        :param rows: list of dicts with the same keys.
        """
        keys = list(rows[0])
        lines = [','.join(keys)] + [','.join(_cell(row[key]) for key in keys) for row in rows]
        return self._write(name, lambda path: path.write_text('\n'.join(lines) + '\n', encoding='utf-8'))

    def write_figure(self, name, figure):
        """Write a matplotlib figure as PNG ``name`` and free it."""
        written = self._write(name, lambda path: figure.savefig(path, format='png', dpi=100))
        figure.clear()
        return written

    def write_image(self, name, image):
        """Write an image [H,W,3] uint8 RGB as PNG ``name``."""
        data = cv2.imencode('.png', image[..., ::-1])[1].tobytes()
        return self._write(name, lambda path: path.write_bytes(data))

    def write_arrays(self, name, arrays):
        """Write arrays {name: array} as a compressed NumPy archive ``name``."""

        def write(path):
            with open(path, 'wb') as file:
                np.savez_compressed(file, **arrays)

        return self._write(name, write)

    def _write(self, name, write):
        path = self.path / name
        beside = path.with_name(f'.{name}.{os.getpid()}.part')
        try:
            write(beside)
            os.replace(beside, path)
        except OSError as error:
            raise EvaluationError(f"'{path}' cannot be written: {error.strerror or error}") from error
        finally:
            beside.unlink(missing_ok=True)
        return path


def plain(value):
    """Turn numpy values, paths and NaN into what JSON has."""
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _cell(value):
    return f'{value:.6g}' if isinstance(value, float) else str(value)
