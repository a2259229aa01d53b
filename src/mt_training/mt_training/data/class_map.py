"""
From the classes of a data set to those of an experiment, by name.

Names are equal whatever their case and whether '-', '_' or spaces divide the words. A map says more: names of
the set to names of the experiment, or to nothing (``null``: ignored). What is in neither is ignored. Ready
maps are in ``configs/class_maps.yaml``.
"""

from pathlib import Path

import numpy as np
import yaml

from mt_perception.errors import MtError
from mt_training.data.augment import IGNORE

CLASS_MAPS = Path(__file__).parents[1] / 'configs' / 'class_maps.yaml'


def normalise(name):
    """Return a class name in lower case with single spaces between its words."""
    return ' '.join(str(name).lower().replace('-', ' ').replace('_', ' ').split())


def class_table(set_names, experiment_names, mapping=None, strict=True, what='the set'):
    """
    Make the table that translates class ids.

    :param set_names: class names of the data set, by id.
    :param experiment_names: class names of the experiment, by id.
    :param mapping: {name in the set: name in the experiment or None}; it goes before equal names.
    :param strict: names of ``mapping`` have to be in the set; ready maps serve several versions of a set.
    :param what: names the set in errors.
    :return: [256] uint8, class id of the experiment, ``IGNORE`` where there is none.
    :raises MtError: unknown names, or no class in common.
    """
    ids = {normalise(name): i for i, name in enumerate(experiment_names)}
    known = {normalise(name) for name in set_names}
    chosen = {}
    for name, target in (mapping or {}).items():
        if strict and normalise(name) not in known:
            raise MtError(f"class_map: {what} has no class '{name}'; it has {', '.join(set_names)}")
        if target is not None and normalise(target) not in ids:
            raise MtError(
                f"class_map: '{name}: {target}', but the experiment has no class '{target}'; it has "
                f'{", ".join(experiment_names)}'
            )
        chosen[normalise(name)] = IGNORE if target is None else ids[normalise(target)]
    table = np.full(256, IGNORE, np.uint8)
    for i, name in enumerate(set_names):
        table[i] = chosen.get(normalise(name), ids.get(normalise(name), IGNORE))
    if (table == IGNORE).all():
        raise MtError(
            f'{what} and the experiment have no class in common ({", ".join(set_names[:8])} … and '
            f'{", ".join(experiment_names[:8])} …): say in class_map which is which'
        )
    return table


def named_map(name, dataset):
    """
    Return a ready map.

    :param name: of the target classes in ``configs/class_maps.yaml``, such as 'camvid11'.
    :param dataset: name of the set in the registry.
    :return: {name in the set: name in the experiment}.
    :raises MtError: no such map, or none for this set.
    """
    maps = yaml.safe_load(CLASS_MAPS.read_text(encoding='utf-8'))
    if name not in maps:
        raise MtError(
            f"there is no class_map '{name}'; ready are {', '.join(maps)}, or write one: {{name: name}}"
        )
    if dataset not in maps[name]:
        raise MtError(f"class_map '{name}' has no entry for '{dataset}'; it has {', '.join(maps[name])}")
    return maps[name][dataset]
