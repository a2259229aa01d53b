"""
Losses, one file per task, and the table that adds them up as an experiment says.

In an experiment::

    losses:
      segmentation: {cross_entropy: 1.0, dice: {weight: 0.5, smooth: 10.0}}
      depth: {scale_invariant_log: 1.0, gradient: 0.5}
      place: {multi_similarity: 1.0}

A task that is not named keeps its loss of ``DEFAULTS``.
"""

import inspect

from mt_perception.errors import MtError
from mt_training.losses import depth, keypoints, masks, places, segmentation
from mt_training.losses.photometric import pair_photometric

LOSSES = {
    'segmentation': {
        'cross_entropy': segmentation.cross_entropy,
        'focal': segmentation.focal,
        'dice': segmentation.dice,
        'lovasz': segmentation.lovasz,
        'ohem': segmentation.ohem,
    },
    'depth': {
        'log_l1': depth.log_l1,
        'l1': depth.l1,
        'berhu': depth.berhu,
        'scale_invariant_log': depth.scale_invariant_log,
        'gradient': depth.gradient,
    },
    'masks': {'hungarian': masks.hungarian},
    'photometric': {'photometric': pair_photometric},
    'keypoints': {'cell_cross_entropy': keypoints.cell_cross_entropy},
    'descriptors': {'dual_softmax': keypoints.dual_softmax},
    'place': {
        'info_nce': places.info_nce,
        'triplet': places.triplet,
        'multi_similarity': places.multi_similarity,
    },
}
DEFAULTS = {
    'segmentation': 'cross_entropy',
    'masks': 'hungarian',
    'depth': 'log_l1',
    'keypoints': 'cell_cross_entropy',
    'descriptors': 'dual_softmax',
    'place': 'info_nce',
}


class LossTable:
    """
    The losses of an experiment: per task, named functions with weights and options.

    :param losses: dict task → {name: weight or {weight: …, option: …}}, see above.
    :param functions: the functions to choose from, like ``LOSSES``.
    :raises MtError: an unknown task, loss or option, or a weight that is not a number.
    """

    def __init__(self, losses=None, functions=None):
        """Look the functions up."""
        functions = functions or LOSSES
        chosen = {task: {name: 1.0} for task, name in DEFAULTS.items()}
        for task, named in (losses or {}).items():
            if task not in functions:
                raise MtError(f"losses: unknown task '{task}'; known: {', '.join(functions)}")
            if isinstance(named, str):
                named = {named: 1.0}
            chosen[task] = named or {}
        self.parts = {
            task: [self._part(task, name, value, functions[task]) for name, value in named.items()]
            for task, named in chosen.items()
        }

    @staticmethod
    def _part(task, name, value, known):
        if name not in known:
            raise MtError(f"losses.{task}: unknown loss '{name}'; known: {', '.join(known)}")
        options = dict(value) if isinstance(value, dict) else {'weight': value}
        weight = options.pop('weight', 1.0)
        if not isinstance(weight, (int, float)) or isinstance(weight, bool):
            raise MtError(f"losses.{task}.{name}: '{weight}' is not a weight")
        parameters = inspect.signature(known[name]).parameters.values()
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            allowed = [p.name for p in parameters if p.default is not p.empty]
            wrong = [k for k in options if k not in allowed]
            if wrong:
                raise MtError(
                    f"losses.{task}.{name} has no option '{wrong[0]}'; it has: {', '.join(allowed) or 'none'}"
                )
        return name, weight, known[name], options

    def option(self, task, name):
        """Return the option ``name`` of the losses of a task, from the first that has it, or None."""
        return next((options[name] for *_, options in self.parts.get(task, []) if name in options), None)

    def has(self, task):
        """Tell whether anything is computed for ``task``."""
        return bool(self.parts.get(task))

    def __call__(self, task, *inputs, figures=None, **context):
        """
        Add up the losses of a task.

        :param inputs: arguments of its functions.
        :param figures: dict that gets each part where there are several, as ``task/name``.
        :param context: more arguments of its functions; the experiment's options come first.
        :return: (scalar, what the first function says beside its loss, or None).
        """
        total, beside = None, None
        for index, (name, weight, function, options) in enumerate(self.parts[task]):
            loss = function(*inputs, **{**context, **options})
            if isinstance(loss, tuple):
                loss, figure = loss
                beside = figure if index == 0 else beside
            if figures is not None and len(self.parts[task]) > 1:
                figures[f'{task}/{name}'] = loss.detach()
            loss = loss if weight == 1 else weight * loss
            total = loss if total is None else total + loss
        return total, beside
