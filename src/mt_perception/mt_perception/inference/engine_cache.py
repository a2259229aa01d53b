"""
Built engines kept on disk, each with a sidecar that says what it was built for.

An engine runs only with the TensorRT version and the GPU it was built for. Beside ``name.engine`` lies
``name.json`` with everything it depends on and its own checksum; when any of that differs, it is built again.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from pathlib import Path

CHECKSUM = 'engine_sha256'


def load_or_build(folder, name, facts, build, log, warn, rebuild=''):
    """
    Return the engine for ``facts`` from the cache, building it when there is none.

    Processes that want the same engine build it once: the others wait. A file appears complete or not at all.
    A folder that cannot be written to costs the next start another build, nothing else.

    :param folder: cache folder, made when missing.
    :param name: file name without ending.
    :param facts: {name: value}, JSON types: what the engine depends on.
    :param build: called without arguments, returns the engine's bytes.
    :param log: called with a sentence.
    :param warn: called with a sentence.
    :param rebuild: why an engine that fits ``facts`` is not good enough, '' when it is.
    :return: bytes.
    """
    engine = Path(folder) / f'{name}.engine'
    if not rebuild:
        plan, _ = _load(engine, facts)
        if plan is not None:
            return plan
    with contextlib.ExitStack() as stack:
        try:
            engine.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(engine.with_suffix('.lock'), log))
        except OSError as error:
            warn(f"engine cache '{folder}' cannot be used ({error.strerror}): every start builds the engine")
            return build()
        plan, difference = _load(engine, facts)  # another process may have built it while this one waited
        if plan is not None and not rebuild:
            return plan
        if rebuild or difference:
            log(f"engine '{engine}' is built again: {rebuild or difference}")
        plan = build()
        try:
            _write(engine, plan)
            sidecar = {**facts, CHECKSUM: hashlib.sha256(plan).hexdigest()}
            _write(engine.with_suffix('.json'), json.dumps(sidecar, indent=2).encode())
        except OSError as error:
            warn(f"engine '{engine}' cannot be kept ({error.strerror}): it is built again at the next start")
        return plan


def file_sha256(path):
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _load(engine, facts):
    """Return (bytes, '') when the engine fits ``facts``, else (None, why not), '' when there is no engine."""
    try:
        plan = engine.read_bytes()
    except OSError:
        return None, ''
    try:
        sidecar = json.loads(engine.with_suffix('.json').read_text())
    except (OSError, ValueError):
        return None, 'its sidecar is missing or damaged'
    if not isinstance(sidecar, dict):
        return None, 'its sidecar is damaged'
    for key, value in json.loads(json.dumps(facts)).items():
        if sidecar.get(key) != value:
            return None, f'{key} was {sidecar.get(key)}, now it is {value}'
    if sidecar.get(CHECKSUM) != hashlib.sha256(plan).hexdigest():
        return None, 'the file is damaged'
    return plan, ''


@contextlib.contextmanager
def _locked(path, log):
    """Hold a lock that the system releases when the process ends, however it ends."""
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another process builds the same engine: waiting for it ('{path}')")
            start = time.monotonic()
            fcntl.flock(file, fcntl.LOCK_EX)
            log(f'the other process is ready after {time.monotonic() - start:.0f} s')
        yield


def _write(path, data):
    """Write beside, then rename: a reader sees the old file or the whole new one."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with open(temporary, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
