"""Class weights from how often each class is seen."""

import numpy as np

from mt_perception.errors import MtError


def class_counts(labels, classes):
    """
    Count what the balancing rules need.

    :param labels: iterable of [H,W] class ids; ids of ``classes`` and above do not count.
    :return: (pixels of each class [C], labelled pixels of the images that show the class [C]), float64.
    """
    pixels, shown = np.zeros(classes), np.zeros(classes)
    for image in labels:
        here = np.bincount(np.asarray(image).reshape(-1), minlength=classes)[:classes]
        pixels += here
        shown += (here > 0) * here.sum()
    return pixels, shown


def median_frequency(pixels, shown):
    """
    Median frequency balancing (Eigen and Fergus, 2015): median(f) / f of each class.

    f is the class's share of the labelled pixels of the images that show it; classes never seen weigh 0.
    """
    frequency = np.divide(pixels, shown, out=np.zeros_like(pixels), where=shown > 0)
    seen = frequency > 0
    return np.where(seen, np.median(frequency[seen]) / np.where(seen, frequency, 1), 0.0)


def inverse_log(pixels, shown, c=1.02):
    """1 / ln(c + p), p the class's share of all labelled pixels (Paszke et al., "ENet", 2016, section 3)."""
    return 1 / np.log(c + pixels / pixels.sum())


def effective_number(pixels, shown, beta=0.999999):
    """
    (1 − β) / (1 − β^n), n the class's pixels (Cui et al., "Class-Balanced Loss", 2019, eq. 4).

    Classes never seen weigh 0.
    """
    seen = pixels > 0
    share = -np.expm1(np.where(seen, pixels, 1) * np.log(beta))
    return np.where(seen, (1 - beta) / share, 0.0)


RULES = {
    'median_frequency': median_frequency,
    'inverse_log': inverse_log,
    'effective_number': effective_number,
}


def class_weights(rule, labels, classes, **options):
    """
    Weigh the classes by a rule, scaled to mean 1 over the classes that occur.

    :param rule: one of ``RULES``.
    :param labels: see :func:`class_counts`.
    :param options: of the rule: ``c`` or ``beta``.
    :return: list of floats.
    :raises MtError: there is no such rule, or nothing is labelled.
    """
    if rule not in RULES:
        raise MtError(f"class_weights: unknown rule '{rule}'; known: {', '.join(RULES)}")
    pixels, shown = class_counts(labels, classes)
    if not pixels.any():
        raise MtError(
            f"class_weights: the rule '{rule}' needs labelled images, and no set of this run has any"
        )
    try:
        weights = RULES[rule](pixels, shown, **options)
    except TypeError:
        raise MtError(f"class_weights: the rule '{rule}' does not take {', '.join(options)}") from None
    return (weights / weights[pixels > 0].mean()).tolist()
