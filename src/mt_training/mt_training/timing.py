"""
Compare the speed of several things honestly: in one run, in turns, on the same inputs.

A machine that others use gets faster and slower by the minute; measured one after the other, the difference
says more about the minute than about the model.
"""

import time

import numpy as np
from tqdm import tqdm


def alternate(runners, inputs, rounds, warm_up=2, progress=True):
    """
    Time functions in turns; every other round goes through them backwards.

    :param runners: {name: function of one input}.
    :param inputs: list of inputs, used one after the other; in a round all functions get the same one.
    :param rounds: number of timed calls of every function.
    :param warm_up: calls of every function before, which do not count.
    :param progress: show a bar.
    :return: {name: [rounds] float64 milliseconds}.
    """
    for run in runners.values():
        for index in range(warm_up):
            run(inputs[index % len(inputs)])
    found = {name: [] for name in runners}
    names = list(runners)
    for index in tqdm(range(rounds), desc='timing', unit='round', disable=None if progress else True):
        given = inputs[index % len(inputs)]
        for name in names if index % 2 == 0 else reversed(names):
            start = time.perf_counter()
            runners[name](given)
            found[name].append((time.perf_counter() - start) * 1e3)
    return {name: np.array(values) for name, values in found.items()}


def summarise(times):
    """
    Turn the times of :func:`alternate` into numbers.

    :return: {name: {'p50_ms', 'p95_ms', 'ratio'}}; ratio is the median of the time divided by that of the
        first in the same round: below 1 is faster.
    """
    first = next(iter(times.values()))
    return {
        name: {
            'p50_ms': float(np.median(values)),
            'p95_ms': float(np.percentile(values, 95)),
            'ratio': float(np.median(values / first)),
        }
        for name, values in times.items()
    }
