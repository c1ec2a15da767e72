"""The device's half of privacy: the codes that a device sends instead of its prompts and pictures.

codes.py     from captions to a code, by any text encoder
pictures.py  from embedded pictures to a code
levels.py    the levels, by name; plain.py, coarse.py, local.py and local_dp.py are one each
basis.py     the public directions that codes of level "coarse" are reduced to
questions.py what a coordinator asks where devices choose their clusters alone (level "local"); answers.py, the answers
noise        the noise of answers at level "local+dp", and the budget that it keeps
company.py   devices whose answers may be summed, beside those of the sum before
"""

from __future__ import annotations

from edge_sdk.privacy.answers import SILHOUETTE, UPPER, answer, nearest_centroid
from edge_sdk.privacy.basis import DIMENSIONS, FEWEST_STYLES, Basis, basis_id, load_basis, make_basis, save_basis
from edge_sdk.privacy.coarse import STEPS, Coarse
from edge_sdk.privacy.codes import Encoder, different_captions, prompt_code, unit_length
from edge_sdk.privacy.company import MOST_CLUSTERINGS, Answered, check_company, hides
from edge_sdk.privacy.levels import DEFAULT, LEAVING, LEVELS, Level, check_epsilon, level_named
from edge_sdk.privacy.noise import (
    COUNTED,
    GRAIN,
    LARGEST_DELTA,
    LARGEST_EPSILON,
    SMALLEST_EPSILON,
    Below,
    Guarantee,
    Spent,
    bounded_answer,
    cost,
    discrete_gaussian,
    gaussian_epsilon,
    gaussian_mu,
    length,
    noisy_answer,
    part_of_noise,
)
from edge_sdk.privacy.pictures import picture_code
from edge_sdk.privacy.questions import (
    FARTHEST,
    MOST_CENTROIDS,
    MOST_IN_TRIAL,
    MOST_QUESTIONS,
    SUBSTEPS,
    Integers,
    Kind,
    Question,
    check_follows,
    check_question,
    counts_question,
    places_of,
    read_question,
)

__all__ = [
    "COUNTED",
    "DEFAULT",
    "DIMENSIONS",
    "FARTHEST",
    "FEWEST_STYLES",
    "GRAIN",
    "LARGEST_DELTA",
    "LARGEST_EPSILON",
    "LEAVING",
    "LEVELS",
    "MOST_CENTROIDS",
    "MOST_CLUSTERINGS",
    "MOST_IN_TRIAL",
    "MOST_QUESTIONS",
    "SILHOUETTE",
    "SMALLEST_EPSILON",
    "STEPS",
    "SUBSTEPS",
    "UPPER",
    "Answered",
    "Basis",
    "Below",
    "Coarse",
    "Encoder",
    "Guarantee",
    "Integers",
    "Kind",
    "Level",
    "Question",
    "Spent",
    "answer",
    "basis_id",
    "bounded_answer",
    "check_company",
    "check_epsilon",
    "check_follows",
    "check_question",
    "cost",
    "counts_question",
    "different_captions",
    "discrete_gaussian",
    "gaussian_epsilon",
    "gaussian_mu",
    "hides",
    "length",
    "level_named",
    "load_basis",
    "make_basis",
    "nearest_centroid",
    "noisy_answer",
    "part_of_noise",
    "picture_code",
    "places_of",
    "prompt_code",
    "read_question",
    "save_basis",
    "unit_length",
]
