"""Several runs of one evaluation: the median of every number, and how far the runs lie apart."""

from statistics import median


def summarize(runs):
    """
    Return the metrics of several runs as one.

    Every number becomes its median over the runs; ``spread`` has the same keys with [least, greatest]. What
    is no number (texts, null, true, lists) stays where all runs agree and is null where they do not; a number
    that some runs lack is the median of the others.

    :param runs: list of metrics, nested dicts with the same keys.
    :return: the metrics, with ``repeat`` (number of runs) and ``spread`` at the end.
    """
    middle, spread = _summary(runs)
    return {**middle, 'repeat': len(runs), 'spread': spread}


def _summary(runs):
    middle, spread = {}, {}
    for key in dict.fromkeys(key for run in runs for key in run):
        values = [run.get(key) for run in runs]
        numbers = [
            value for value in values if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        if all(isinstance(value, dict) for value in values):
            middle[key], inner = _summary(values)
            if inner:
                spread[key] = inner
        elif numbers and all(value is None or value in numbers for value in values):
            middle[key] = median(numbers)
            spread[key] = [min(numbers), max(numbers)]
        else:
            middle[key] = values[0] if all(value == values[0] for value in values) else None
    return middle, spread
