"""
``datasets.yaml``: where the user's data sets are.

The file is the one of ``--datasets``, else that of the environment variable ``MT_DATASETS``, else
``datasets.yaml`` in the current folder. ``configs/datasets_template.yaml`` says what goes in.

``python -m mt_training.data.datasets_file`` opens every set in the file and prints what it found.
"""

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mt_perception.errors import EvaluationError, MtError
from mt_training.data.readers import registry

VARIABLE = 'MT_DATASETS'
DEFAULT = 'datasets.yaml'
TEMPLATE = Path(__file__).parents[1] / 'configs' / 'datasets_template.yaml'


@dataclass
class Source:
    """
    Where one data set is.

    :param dataset: name in the registry.
    :param root: path, or None where it needs none.
    :param options: options of the reader.
    """

    dataset: str
    root: str | None
    options: dict = field(default_factory=dict)


class Datasets:
    """
    The sets of a ``datasets.yaml``.

    :param path: the file; None: see the module. No file is no error until a set is asked for.
    :raises EvaluationError: the file named is missing, or no file of this kind.
    """

    def __init__(self, path=None):
        named = path or os.environ.get(VARIABLE)
        self.path = Path(named or DEFAULT).expanduser()
        self.sources = {}
        if not self.path.is_file():
            if named:
                how = '--datasets' if path else VARIABLE
                raise EvaluationError(f"{how} names '{self.path}', which is not there; see {TEMPLATE.name}")
            return
        try:
            content = yaml.safe_load(self.path.read_text(encoding='utf-8'))
        except (OSError, yaml.YAMLError) as error:
            raise EvaluationError(f"'{self.path}' cannot be read: {str(error).splitlines()[0]}") from None
        if content is not None and not isinstance(content, dict):
            raise EvaluationError(f"'{self.path}' is not a mapping of names to folders; see {TEMPLATE.name}")
        for name, value in (content or {}).items():
            self.sources[name] = self._source(name, value)

    def _source(self, name, value):
        value = {'root': value} if isinstance(value, str) else value
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise EvaluationError(f"'{self.path}': {name} is neither a folder nor a mapping with root")
        value = dict(value)
        dataset, root = value.pop('dataset', name), value.pop('root', None)
        if dataset not in registry.ENTRIES:
            raise EvaluationError(
                f"'{self.path}': there is no data set '{dataset}'; a name of your own says with dataset: "
                'which of '
                f'{", ".join(registry.ENTRIES)} it is'
            )
        if root is not None and registry.ENTRIES[dataset].needs_root:
            root = str(self.path.resolve().parent / Path(os.path.expandvars(str(root))).expanduser())
        return Source(dataset, root, value)

    def source(self, name, root=None):
        """
        Return the :class:`Source` of a set.

        :param name: a name in the file or in the registry.
        :param root: folder to use instead of the file's.
        :raises EvaluationError: unknown name, or a set whose folder nobody said.
        """
        if name not in self.sources:
            entry = registry.entry_of(name) if name in registry.ENTRIES or not self.sources else None
            if entry is None:
                raise EvaluationError(
                    f"there is no data set '{name}', neither in '{self.path}' "
                    f'({", ".join(self.sources)}) nor among '
                    f'{", ".join(registry.ENTRIES)}'
                )
            if root is None and entry.needs_root:
                raise EvaluationError(
                    f"it is not known where '{name}' ({entry.title}) is: give its folder, or enter it in "
                    f"'{self.path}' (template: {TEMPLATE.name}; another file: --datasets or {VARIABLE})"
                )
            return Source(name, root)
        source = self.sources[name]
        return Source(source.dataset, source.root if root is None else str(root), source.options)

    def open(self, name, root=None, **options):
        """
        Open a set; see :func:`mt_training.data.readers.registry.open_dataset`.

        :param options: options of the reader; they go before those of the file.
        """
        source = self.source(name, root)
        return registry.open_dataset(source.dataset, source.root, **{**source.options, **options})

    def open_frames(self, name, root=None, **options):
        """Open a set as a :class:`FrameSet`; arguments as :meth:`open`."""
        source = self.source(name, root)
        return registry.open_frames(source.dataset, source.root, **{**source.options, **options})

    def kind(self, name):
        """Return 'frames', 'planar' or 'places'."""
        dataset = self.sources[name].dataset if name in self.sources else name
        return registry.entry_of(dataset).kind


def add_datasets_option(parser):
    """Add ``--datasets`` to a command."""
    parser.add_argument(
        '--datasets',
        metavar='FILE',
        help=f'where the data sets are (default: ${VARIABLE}, or {DEFAULT} here)',
    )


def describe(found):
    """Say in a few words what an opened set holds."""
    if isinstance(found, list):
        return f'{len(found)} scenes, {sum(len(s.images) for s in found)} images'
    if hasattr(found, 'queries'):
        return f'{len(found.queries)} queries, {len(found.references)} references'
    labels = ', '.join(found.provides) or 'no labels'
    classes = f', {len(found.class_names)} classes' if found.class_names else ''
    return f'{len(found)} images, {labels}{classes}'


def main(argv=None):
    """Open every set of the file and print what it holds, or the sentence that says why not."""
    parser = argparse.ArgumentParser(prog='datasets_file', description='Check datasets.yaml.')
    add_datasets_option(parser)
    args = parser.parse_args(argv)
    failed = 0
    try:
        datasets = Datasets(args.datasets)
        if not datasets.sources:
            raise EvaluationError(f"'{datasets.path}' names no data set; see {TEMPLATE}")
        for name in datasets.sources:
            try:
                print(f'{name}: {describe(datasets.open(name))}')
            except MtError as error:
                failed += 1
                print(f'{name}: {error}')
    except MtError as error:
        print(f'datasets_file: {error}', file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
