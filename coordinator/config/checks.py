"""Combinations of keys that are refused. What a single table can check, its method's settings check."""

from __future__ import annotations

import msgspec
import numpy as np

from coordinator.config.federation import Federation
from coordinator.config.tables import FAMILIES
from coordinator.methods.clustering import BySums, Evidence, Grouping, by_noisy_sums
from coordinator.rounds import LARGEST_SUM, fewest_in_sum
from edge_sdk.adapter import MAX_RANK, Share
from edge_sdk.errors import BrokerSettingsInvalid, ConfigurationError
from edge_sdk.privacy import DEFAULT, LARGEST_EPSILON, SMALLEST_EPSILON
from edge_sdk.secure_aggregation import SUMMABLE
from edge_sdk.transport import Settings, check

MOST_LIKELY = 0.1
"""Largest delta of level "local+dp", over all devices together."""


def check_sense(federation: Federation, source: str) -> None:
    """Refuse a federation whose keys contradict each other.

    Args:
        federation: the resolved file.
        source: name of the file, for errors.

    Raises:
        ConfigurationError: the message says which keys, and what to change, for all contradictions at once.
    """
    _check_connection(federation, source)
    reasons = [
        *_of_privacy(federation),
        *_of_rounds(federation),
        *_of_aggregation(federation),
        *_of_masks(federation),
        *_of_local(federation),
        *_of_noise(federation),
        *_of_optimiser(federation),
    ]
    if reasons:
        raise ConfigurationError(f"{source}: {' And: '.join(reasons)}")


def _check_connection(federation: Federation, source: str) -> None:
    try:
        if federation.password_file and not (federation.username or Settings(federation.broker).credentials[0]):
            raise ConfigurationError("password_file needs `username`, or a user in the broker's URL.")
        # The password file is read only when it is needed.
        password = "in password_file" if federation.password_file else None
        check(msgspec.structs.replace(federation, password_file=None).connection(password))
    except (BrokerSettingsInvalid, ConfigurationError) as error:
        raise ConfigurationError(f"{source}: {error}") from error
    if bool(federation.certificate) != bool(federation.key):
        raise ConfigurationError(f"{source}: `certificate` and `key` belong together: give both or neither.")


def _of_privacy(federation: Federation) -> list[str]:
    if federation.privacy != "plain" or federation.allow_plain:
        return []
    return [
        'privacy = "plain" lets everybody who has the text encoder find every caption of a device again: leave it out '
        f'(the default is "{DEFAULT}"); or, for tests and research, set allow_plain = true beside it. Devices refuse '
        "it, too, unless their owners allow it."
    ]


def _of_rounds(federation: Federation) -> list[str]:
    found = []
    if federation.max_devices < federation.min_devices:
        found.append(
            f"max_devices = {federation.max_devices} is less than min_devices = {federation.min_devices}: no round "
            "would ever start."
        )
    if federation.root_rounds > federation.rounds:
        found.append(f"root_rounds = {federation.root_rounds} is more than rounds = {federation.rounds}.")
    return found


def _of_aggregation(federation: Federation) -> list[str]:
    """Contradictions of the aggregation with the filter, the interaction and the rounds."""
    method, aggregation = federation.aggregator, f"[aggregation] method = {federation.aggregation.method!r}"
    interaction = f"[interaction] method = {federation.interaction.method!r}"
    found = []
    if federation.root_rounds and method.home_factor:
        found.append(f"{aggregation} leaves a factor at home, so there can be no root adapter: set root_rounds = 0.")
    if federation.filter.method != "none" and method.home_factor:
        found.append(
            f"[filter] method = {federation.filter.method!r} cannot judge updates of "
            f'{federation.aggregation.method!r}, whose other factor stays at home: set method = "none" under [filter].'
        )
    trained = {method.share(turn) for turn in range(federation.rounds)}
    if federation.interaction.frozen_a and trained != {Share.B}:
        found.append(f'{interaction} holds only while devices keep A: set method = "ffa" under [aggregation].')
    if federation.interaction.whole and (method.folds or method.home_factor):
        found.append(
            f"{interaction} mixes whole adapters of clusters, and {aggregation} makes none: set method = "
            '"none" under [interaction].'
        )
    if federation.group_rank < federation.rank:
        found.append(
            f"server_rank = {federation.group_rank} is less than rank = {federation.rank}: leave it out, or lower "
            "`rank`, which is what devices train."
        )
    return found


def _of_masks(federation: Federation) -> list[str]:
    """Contradictions of masked sums with all that looks at single updates, and with small sums."""
    masking = federation.masking
    if masking is None:
        return []
    masked, clustering = "[aggregation] masked = true", federation.clustering
    found = []
    try:
        needed = fewest_in_sum(masking)
    except ConfigurationError as error:
        return [f"[aggregation] {error}"]
    if federation.filter.method != "none":
        found.append(
            f"[filter] method = {federation.filter.method!r} judges single updates, and under {masked} the coordinator "
            'sees none: set method = "none" under [filter], or masked = false. A device that lies about its update is '
            "not seen under masks."
        )
    trained = {federation.aggregator.share(turn) for turn in range(federation.rounds)}
    if odd := sorted(share.value for share in trained - SUMMABLE.keys()):
        found.append(
            f"[aggregation] method = {federation.aggregation.method!r} has devices send {odd[0]!r}, and a masked sum "
            "is one of the factors A, B or both: set masked = false."
        )
    if federation.late:
        found.append(
            f"late = {federation.late}: under {masked} an update counts in the sum of its round, or not at all: leave "
            "`late` out."
        )
    if not federation.level.leaves:
        pass  # `_of_local` says which clustering goes with it
    elif any(clustering(Evidence(np.zeros((0, 0)), (), rounds)).adapter for rounds in (0, 1, federation.rounds)):
        default = ", the default," if clustering.method == FAMILIES["clustering"].default else ""
        found.append(
            f"[clustering] method = {clustering.method!r}{default} compares adapters of single devices, and under "
            f'{masked} the coordinator sees none: under [clustering], set method = "prompt" and '
            f'min_cluster = {needed}, for clusters by prompt codes, or method = "single", for one cluster.'
        )
    elif isinstance(clustering, Grouping) and clustering.clusters != 1 and clustering.min_cluster < needed:
        found.append(
            f"[clustering] min_cluster = {clustering.min_cluster}, and the masked sum of a cluster takes {needed} "
            f"devices at least: set min_cluster = {needed} or more."
        )
    if federation.min_devices < needed:
        found.append(
            f"min_devices = {federation.min_devices}, and a masked sum takes {needed} devices at least: set "
            f"min_devices = {needed} or more."
        )
    return found


def _of_local(federation: Federation) -> list[str]:
    """Contradictions of level "local" with all that looks at single devices."""
    clustering, local = federation.clustering, f'privacy = "{federation.privacy}"'
    if federation.level.leaves:
        if not isinstance(clustering, BySums):
            return []
        return [
            '[clustering] method = "sums" is for privacy = "local" and "local+dp", at which no code leaves a device: '
            "set one of these, or choose another method."
        ]
    found = []
    if federation.masking is None:
        found.append(
            f"{local} keeps each device's taste from the coordinator, which would see it in the device's update: set "
            'method = "fedit" (or "ffa", "rolora") and masked = true under [aggregation].'
        )
    if not isinstance(clustering, BySums):
        found.append(
            f"[clustering] method = {clustering.method!r} looks at codes, pictures or adapters of single devices, and "
            f'with {local} the coordinator sees none: leave [clustering] method out, or set method = "sums"; clusters '
            "= 1 under [clustering] makes one cluster."
        )
    elif federation.min_devices < 2 * clustering.min_cluster and clustering.clusters != 1:
        found.append(
            f"min_devices = {federation.min_devices}: clusters are found once, when so many devices are there, and two "
            f"clusters of min_cluster = {clustering.min_cluster} take {2 * clustering.min_cluster}: set min_devices = "
            f"{2 * clustering.min_cluster} or more, or clusters = 1 under [clustering]."
        )
    if federation.max_devices > LARGEST_SUM and not federation.level.noisy:
        found.append(
            f"max_devices = {federation.max_devices}: with {local} all devices are in one masked sum, whose roster of "
            f"{LARGEST_SUM} fits into a message; in parts, a cluster could be a single device's. Set max_devices = "
            f"{LARGEST_SUM} or less."
        )
    if federation.interaction.frozen_a:
        found.append(
            f"[interaction] method = {federation.interaction.method!r} gives each cluster factors A of its own, and "
            f"with {local} small clusters share a slot of the sum, whose changes then belong to no A: choose another "
            "method under [interaction]."
        )
    return found


def _of_noise(federation: Federation) -> list[str]:
    """Settings of level "local+dp" that give no guarantee, or no clusters."""
    if not federation.level.noisy:
        return []
    clustering, epsilon = federation.clustering, federation.epsilon
    level, bounds = f'privacy = "{federation.privacy}"', f"{SMALLEST_EPSILON:g} to {LARGEST_EPSILON:g}"
    found = []
    if epsilon < SMALLEST_EPSILON:
        found.append(
            f"{level} needs epsilon, which says how much the answers of a device may tell: set epsilon = 4, or any of "
            f"{bounds}; smaller tells less, and takes more devices."
        )
    elif federation.min_devices < (needed := by_noisy_sums.fewest_devices(epsilon)):
        found.append(
            f"min_devices = {federation.min_devices}: with epsilon = {epsilon:g} clusters drown in the noise unless "
            f"{needed} devices are there when they are found, once: set min_devices = {needed} or more, or a larger "
            "epsilon."
        )
    if federation.delta * federation.min_devices > MOST_LIKELY:
        found.append(
            f"delta = {federation.delta:g}: it is the chance that the guarantee does not hold for a device, and should "
            f"be small beside one in min_devices = {federation.min_devices}: set delta = "
            f"{MOST_LIKELY / federation.min_devices:.0e} or less."
        )
    if isinstance(clustering, BySums) and not by_noisy_sums.FEWEST <= clustering.clusters <= by_noisy_sums.MOST:
        found.append(
            f"[clustering] clusters = {clustering.clusters}: with {level} sums with noise do not tell the number of "
            f"clusters: set clusters = {by_noisy_sums.FEWEST} to {by_noisy_sums.MOST} under [clustering]."
        )
    return found


def _of_optimiser(federation: Federation) -> list[str]:
    """Contradictions of the server optimiser with ranks and aggregation."""
    if federation.server_optimiser.method == "none":
        return []
    optimiser = f"[server_optimiser] method = {federation.server_optimiser.method!r}"
    found = []
    if 2 * federation.group_rank >= MAX_RANK:
        found.append(
            f"{optimiser} puts adapters of two rounds together, which leaves ranks below {MAX_RANK // 2} to each, not "
            f'{federation.group_rank}: lower server_rank or rank, or set method = "none" under [server_optimiser].'
        )
    if federation.aggregator.folds:
        found.append(
            f"{optimiser} steps from one adapter to the next, but [aggregation] method = "
            f'{federation.aggregation.method!r} folds what it learns away: set method = "none" under '
            "[server_optimiser]."
        )
    return found
