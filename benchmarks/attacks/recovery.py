"""The captions behind a code, found again among candidates.

Somebody who knows how codes are made knows the code that each candidate alone would have: a row of `features`. The code
of a device is the mean of m unknown rows. Non-negative least squares (Lawson and Hanson 1974) finds weights of
candidates; the m largest begin a search that exchanges one caption at a time as long as the mean comes nearer. In few
dimensions a search costs so little that it is begun from many random sets, too.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from benchmarks.attacks.captions import Matrix, Numbers

_FIRST, _MORE, _TURNS = 400, 200, 8
_EXCHANGES = 200
# Random starts for a code of eight captions, fewer for more, where codes have at most so many dimensions and there are
# at most so many candidates; otherwise one.
_STARTS, _FEW, _MOST = 500, 32, 1000


def recovered(features: Matrix, code: Matrix, count: int, rng: np.random.Generator) -> Numbers:
    """Return the `count` candidates whose mean comes nearest to a code, as far as the search goes.

    Args:
        features: (candidates, k) the candidates' own codes.
        code: (k,) the device's.
        count: number of its captions, which its profile states.
        rng: chooses the random starts.
    """
    weights = _weights(features, code)
    starts = [np.argsort(-weights, kind="stable")[:count], nearest(features, code, count)]
    starts += [rng.choice(len(features), count, replace=False) for _ in range(_starts(features, count))]
    found = [_exchanged(features, code, start) for start in starts]
    return min(found, key=lambda pair: pair[1])[0]


def voted(features: Matrix, code: Matrix, count: int, rng: np.random.Generator) -> Numbers:
    """Return the `count` candidates that are in most of the sets that fit best, a tenth of those from random starts.

    Where many sets fit a code, none of them is likely to be the device's, but its captions are in more of them.
    """
    starts = [rng.choice(len(features), count, replace=False) for _ in range(_starts(features, count))]
    found = sorted((_exchanged(features, code, start) for start in starts), key=lambda pair: pair[1])
    best = np.concatenate([chosen for chosen, _ in found[: -(-len(found) // 10)]])
    return np.argsort(-np.bincount(best, minlength=len(features)), kind="stable")[:count]


def nearest(features: Matrix, code: Matrix, count: int) -> Numbers:
    """Return the candidates of highest cosine with a code: the attack that finds little and looks reassuring."""
    cosines = features @ code / np.maximum(np.linalg.norm(features, axis=1), 1e-12)
    return np.argsort(-cosines, kind="stable")[:count]


def _starts(features: Matrix, count: int) -> int:
    many = features.shape[1] <= _FEW and len(features) <= _MOST
    return 8 * _STARTS // max(8, count) if many else 1


def _weights(features: Matrix, code: Matrix) -> Matrix:
    """Return non-negative weights (candidates,) of least squares, summing to one as nearly as the rest allows.

    Candidates are let in as the gradient asks for them, so that no step looks at more than some hundreds.
    """
    rows = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    wanted = np.append(code, 1.0)
    chosen = np.argsort(-(rows @ wanted), kind="stable")[:_FIRST]
    weights = np.zeros(len(rows))
    for _ in range(_TURNS):
        found, _ = nnls(rows[chosen].T, wanted, maxiter=50 * len(chosen))
        weights[:] = 0.0
        weights[chosen] = found
        gradient = rows @ (wanted - found @ rows[chosen])
        gradient[chosen] = -np.inf
        missing = np.argsort(-gradient, kind="stable")[:_MORE]
        missing = missing[gradient[missing] > 1e-9]
        if not len(missing):
            break
        chosen = np.concatenate([chosen[found > 0], missing])
    return weights


def _exchanged(features: Matrix, code: Matrix, start: Numbers) -> tuple[Numbers, float]:
    """Return the captions after exchanges of one at a time, the best first, and the squared distance that is left."""
    chosen, squares = np.array(start), (features**2).sum(axis=1)
    goal = len(chosen) * code
    left = float(((goal - features[chosen].sum(axis=0)) ** 2).sum())
    for _ in range(_EXCHANGES):
        without = goal - features[chosen].sum(axis=0) + features[chosen]  # (m, k): what a caption has to make up for
        costs = (without**2).sum(axis=1)[:, None] - 2 * without @ features.T + squares
        costs[:, chosen] = np.inf
        place, other = np.unravel_index(int(costs.argmin()), costs.shape)
        if costs[place, other] >= left - 1e-12:
            break
        chosen[place], left = other, float(costs[place, other])
    return chosen, left
