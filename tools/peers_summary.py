"""The arithmetic and the tables of `peers.py`: the figure of several rounds, ratios, means, rows of text."""

import math
import statistics

US = "anychip"
ABSENT = "–"


def of_rounds(values, threads):
    """One figure of several rounds: the median on one thread; the best on more, which meet other work sooner."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    return statistics.median(known) if threads == 1 else min(known)


def fastest_peer(figures):
    """The peer with the least figure; nothing when no peer has one."""
    peers = {name: value for name, value in figures.items() if name != US and value is not None}
    return min(peers, key=peers.get, default=None)


def ratio(figures, peer):
    """Our figure over a peer's; nothing when one is missing."""
    ours, theirs = figures.get(US), figures.get(peer)
    return ours / theirs if ours is not None and theirs else None


def geometric_mean(ratios):
    return math.exp(statistics.fmean(math.log(r) for r in ratios)) if ratios else None


def number(value, scale, digits):
    return ABSENT if value is None else f"{value * scale:.{digits}f}"


class Table:
    """Columns of fixed width: a name to the left, everything else to the right."""

    def __init__(self, columns):
        self.columns = columns
        self.widths = [max(len(columns[0]), 20), *(max(len(c), 9) for c in columns[1:])]

    def head(self):
        return self.row(self.columns)

    def row(self, cells):
        first, *others = zip(cells, self.widths, strict=True)
        return "  ".join([f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)])


def latency_row(model, figures, runtimes, of_best):
    """A line of the table of latencies: milliseconds, our time over the fastest peer's, and the same of best rounds.

    On a host whose phases are longer than a round, best rounds are what can be compared.
    """
    peer = fastest_peer(figures)
    against = ratio(figures, peer)
    times = [number(figures.get(name), 1e3, 2) for name in runtimes]
    return [model, *times, number(against, 1, 2), peer or ABSENT, number(of_best, 1, 2)]


def summary(ratios):
    """What is said of all models together, from model to ratio."""
    if not ratios:
        return "no model has both figures"
    worst = max(ratios, key=ratios.get)
    mean = geometric_mean(list(ratios.values()))
    return f"geometric mean of {len(ratios)} ratios {mean:.3f}, worst {ratios[worst]:.3f} ({worst})"
