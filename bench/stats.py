# SPDX-License-Identifier: MIT
"""Medians and spreads. Series are by round; None stands for a round without a figure."""
import math
import statistics

# The median absolute deviation of a normal distribution times this is its standard deviation.
MAD_TO_SIGMA = 1.4826
# The standard error of a median is this times that of a mean.
MEDIAN_ERROR = 1.2533


def present(series):
    return [v for v in series if v is not None]


def median(series):
    values = present(series)
    return statistics.median(values) if values else None


def spread(series):
    """Median absolute deviation by the median; 0 for one round."""
    values, mid = present(series), median(series)
    if not values or not mid:
        return 0.0
    return statistics.median(abs(v - mid) for v in values) / abs(mid)


def ratios(a, b, better):
    """How many times as good a is as b, round by round: above 1 is better, whichever way the figure counts."""
    pairs = [(x, y) for x, y in zip(a, b) if x is not None and y is not None and x > 0 and y > 0]
    return [x / y if better == "more" else y / x for x, y in pairs]


def log_error(a, b):
    """Standard error of the logarithm of median(a) / median(b); None when it takes more rounds to know.

    Both have the same noise: from a handful of rounds each, its size is better taken from all of them.
    """
    if min(len(a), len(b)) < 3 or min(a + b) <= 0:
        return None
    off = []
    for values in (a, b):
        logs = [math.log(v) for v in values]
        mid = statistics.median(logs)
        # The median itself has a deviation of 0 and says nothing about the others.
        rest = sorted(abs(x - mid) for x in logs)
        off += rest[1:] if len(values) % 2 else rest
    sigma = MAD_TO_SIGMA * statistics.median(off)
    return MEDIAN_ERROR * sigma * math.sqrt(1 / len(a) + 1 / len(b))
