"""
Pack models for a target: one archive with everything that is needed to run them there.

``package M.onnx M.fp16.onnx M.int8.onnx --config RUN/config.yaml --card M.md --output mtnet_small.tar.gz``

Inside: the models in all formats given, the experiment and the model card, SHA-256 sums of all files, a
README, and ``run.py``, which needs onnxruntime, numpy and opencv only: an image in, pictures out, and a
benchmark. The same files give the same archive, byte for byte.
"""

import argparse
import gzip
import hashlib
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

from mt_perception.commands import exit_status
from mt_perception.errors import MtError
from mt_perception.inference.contract import read_model
from mt_perception.writing import write_bytes

FILES = Path(__file__).parent / 'packaging'
MODELS = ('.onnx',)
OTHERS = ('.engine', '.ckpt', '.npz', '.pt', '.ts')
REQUIREMENTS = 'onnxruntime>=1.16\nnumpy>=1.21\nopencv-python-headless>=4.5\n'
SUFFIX = '.tar.gz'


def collect(files, configs=(), cards=(), extras=()):
    """
    Choose what goes in.

    :param files: models; a ``.json`` beside an engine comes along.
    :param configs: YAML files. :param cards: Markdown files. :param extras: any others.
    :return: ({name in the archive: path}, list of :class:`mt_perception.inference.contract.ModelFile`).
    :raises MtError: a file that is missing or of another kind, two of one name, or no ONNX model.
    """
    found, models = {}, []
    for path in map(Path, files):
        if path.suffix not in (*MODELS, *OTHERS):
            raise MtError(f"'{path}' is no model ({', '.join((*MODELS, *OTHERS))}); other files: --extra")
        _add(found, f'models/{path.name}', path)
        if path.suffix in MODELS:
            models.append(read_model(path))
        sidecar = path.with_suffix('.json')
        if path.suffix == '.engine' and sidecar.is_file():
            _add(found, f'models/{sidecar.name}', sidecar)
    if not any(model.metadata.kind == 'perception' for model in models):
        raise MtError('a package needs an exported perception model (.onnx): run.py runs it')
    for folder, paths in (('config', configs), ('', cards), ('extra', extras)):
        for path in map(Path, paths):
            _add(found, f'{folder}/{path.name}' if folder else path.name, path)
    return found, models


def _add(found, name, path):
    if not path.is_file():
        raise MtError(f"'{path}' is not there")
    if name in found:
        raise MtError(f"'{path}' and '{found[name]}' would both be {name} in the archive; rename one")
    found[name] = path


def readme(name, found, models):
    """Return the text of the README."""
    first = next(model for model in models if model.metadata.kind == 'perception')
    metadata = first.metadata
    rows = []
    for entry, path in found.items():
        if entry.startswith('models/'):
            model = next((m for m in models if m.path == path), None)
            kind = f'{model.metadata.kind} `{model.metadata.model_id}`' if model else path.suffix[1:]
            rows.append(f'| `{entry}` | {kind} | {path.stat().st_size / 1e6:.1f} MB |')
    words = {'segmentation': 'classes', 'depth': 'depth', 'keypoints': 'keypoints'}
    return (
        (FILES / 'README.md')
        .read_text(encoding='utf-8')
        .format(
            name=name,
            description=f'{metadata.architecture}: {", ".join(metadata.tasks)}.',
            table='\n'.join(rows),
            pictures=', '.join(words[t] for t in metadata.tasks if t in words) or 'none',
            size='x'.join(map(str, metadata.input_size)),
            multiple=metadata.input_multiple,
            outputs=', '.join(f'`{output}`' for output in first.outputs),
            default=first.path.name,
            license=metadata.license or 'not stated',
        )
    )


def pack(name, files, output, configs=(), cards=(), extras=()):
    """
    Write an archive; arguments as of :func:`collect`.

    :param name: of the folder in the archive. :param output: path, whole or not at all.
    :return: list of the names of the files in it.
    :raises MtError: see :func:`collect`.
    """
    found, models = collect(files, configs, cards, extras)
    runnable = [model for model in models if model.metadata.kind == 'perception']
    content = {
        'name': name,
        'models': [model.path.name for model in runnable],
        'model_ids': {model.path.name: model.metadata.model_id for model in models},
        'tasks': list(runnable[0].metadata.tasks),
    }
    texts = {
        'README.md': readme(name, found, models),
        'package.json': json.dumps(content, indent=2) + '\n',
        'requirements.txt': REQUIREMENTS,
        'run.py': (FILES / 'run.py').read_text(encoding='utf-8'),
    }
    for entry in texts:
        if entry in found:
            raise MtError(f"'{found[entry]}' would take the place of the package's own {entry}; rename it")
    entries = {entry: text.encode() for entry, text in texts.items()}
    entries.update({entry: path.read_bytes() for entry, path in found.items()})
    sums = [f'{hashlib.sha256(data).hexdigest()}  {entry}' for entry, data in sorted(entries.items())]
    entries['SHA256SUMS'] = ('\n'.join(sums) + '\n').encode()
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(output, _archive(name, entries))
    return sorted(entries)


def _archive(name, entries):
    """Return the bytes of a .tar.gz without times, owners or order of its own."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode='wb', filename='', mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode='w') as archive:
            for entry, data in sorted(entries.items()):
                info = tarfile.TarInfo(f'{name}/{entry}')
                info.size, info.mode = len(data), 0o755 if entry == 'run.py' else 0o644
                archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def main(argv=None):
    """Run the command; return 0, or 1 after a mistake of the user's."""
    parser = argparse.ArgumentParser(
        prog='package', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('files', nargs='+', metavar='FILE', help='models: .onnx (the first is the default), '
                        f'{", ".join(OTHERS)}')  # fmt: skip
    parser.add_argument('--output', required=True, metavar=f'NAME{SUFFIX}', help='archive to write')
    parser.add_argument('--config', nargs='*', default=[], metavar='YAML', help='experiment, data sets, …')
    parser.add_argument('--card', nargs='*', default=[], metavar='MD', help='model cards')
    parser.add_argument('--extra', nargs='*', default=[], metavar='FILE', help='other files, to extra/')
    args = parser.parse_args(argv)
    return exit_status('package', run, args)


def run(args):
    """Pack what the command line names and list it."""
    output = Path(args.output)
    if not output.name.endswith(SUFFIX) or output.name == SUFFIX:
        raise MtError(f"--output '{output}' does not end in {SUFFIX}")
    if shutil.disk_usage(_existing(output.parent)).free < 2 * sum(
        Path(f).stat().st_size for f in args.files if Path(f).is_file()
    ):
        raise MtError(f"there is no room for '{output}'")
    name = output.name.removesuffix(SUFFIX)
    entries = pack(name, args.files, output, args.config, args.card, args.extra)
    print(f'{output} ({output.stat().st_size / 1e6:.1f} MB):')
    for entry in entries:
        print(f'  {entry}')


def _existing(folder):
    """Return the nearest folder that is there."""
    folder = folder.resolve()
    while not folder.is_dir():
        folder = folder.parent
    return folder


if __name__ == '__main__':
    sys.exit(main())
