"""One sum by Flower's SecAgg+: `python flower_sums.py SETTINGS RESULT`, both JSON, in an environment that has flwr.

It imports nothing of ours. Both halves are Flower's own code: the four stages of its workflow, and its mod on every
node. They hand each other their messages in this process. The processor's time for the nodes and for the server is
taken apart. Bytes are those of the protocol's records, serialised as Flower does, without the model that travels along.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod.secure_aggregation import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.serde import recorddict_to_proto
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.supercore.task_identity import TaskIdentity


def values_of(settings: dict[str, Any], number: int) -> list[Any]:
    """The tensors of a device, the same as in `settings.Sum`."""
    drawn = np.random.default_rng([settings["seed"], settings["first"] + number])
    return [
        (drawn.standard_normal(size, np.float32) * spread).astype(np.float32) for size, spread in settings["tensors"]
    ]


def worst_error(settings: dict[str, Any], found: list[Any]) -> float:
    """The largest error of a tensor's mean, relative to that in double precision."""
    gone = set(settings["lost"])
    wanted, weight = [np.zeros(size) for size, _ in settings["tensors"]], 0
    for number in range(settings["devices"]):
        if number not in gone:
            weight += settings["weights"][number]
            for tensor, values in zip(wanted, values_of(settings, number), strict=True):
                tensor += settings["weights"][number] * values.astype(np.float64)
    pairs = zip(found, wanted, strict=True)
    return max(float(np.linalg.norm(mine - true / weight) / np.linalg.norm(true / weight)) for mine, true in pairs)


class Node:
    """A node's number, as a client proxy and in the strategy's eyes."""

    def __init__(self, number: int) -> None:
        self.node_id = number + 1


class Strategy:
    """A strategy that asks all nodes, and keeps the mean."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.mean: Any = None

    def configure_fit(self, _: int, parameters: Any, __: Any) -> Any:
        return [(node, FitIns(parameters, {})) for node in self.nodes]

    def aggregate_fit(self, _: int, results: Any, __: Any) -> Any:
        self.mean = parameters_to_ndarrays(results[0][1].parameters)
        return None, {}


class InProcess:
    """Both halves' messages in one process: a grid for the server, the mod for each node."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.contexts = {
            number + 1: Context(run_id=1, node_id=number + 1, node_config={}, state=RecordDict(), run_config={})
            for number in range(settings["devices"])
        }
        self.lost = {number + 1 for number in settings["lost"]}
        self.seconds = 0.0
        self.training = 0.0
        self.harness = 0.0
        self.up = self.down = 0

    def send_and_receive(self, messages: Iterable[Message], timeout: float | None = None) -> list[Message]:
        answers = []
        begun = time.process_time()
        for shared in messages:
            message = copy.deepcopy(shared)  # the mod changes what it is given, and some messages are sent to all
            node = message.metadata.dst_node_id
            stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
            self._count(message, "down")
            if stage == Stage.COLLECT_MASKED_VECTORS and node in self.lost:
                continue
            started = time.process_time()
            answer = secaggplus_mod(message, self.contexts[node], self._fit)
            self.seconds += time.process_time() - started
            self._count(answer, "up")
            answers.append(answer)
        self.harness += time.process_time() - begun
        return answers

    def _fit(self, message: Message, context: Context) -> Message:
        """Training, whose time is not the protocol's."""
        started = time.process_time()
        number = message.metadata.dst_node_id - 1
        parameters = ndarrays_to_parameters(values_of(self.settings, number))
        fitted = FitRes(Status(Code.OK, ""), parameters, self.settings["weights"][number], {})
        answer = Message(compat.fitres_to_recorddict(fitted, keep_input=False), reply_to=message)
        self.training += time.process_time() - started
        return answer

    def _count(self, message: Message, way: str) -> None:
        records = RecordDict({RECORD_KEY_CONFIGS: message.content.config_records[RECORD_KEY_CONFIGS]})
        size = len(recorddict_to_proto(records).SerializeToString())
        setattr(self, way, getattr(self, way) + size)


def main() -> None:
    logging.getLogger("flwr").setLevel(logging.ERROR)
    settings = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # of the process; messages ask for them
    devices = settings["devices"]
    strategy = Strategy([Node(number) for number in range(devices)])
    state = RecordDict()
    state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(
        ndarrays_to_parameters([np.zeros(1, np.float32)]), keep_input=False
    )
    plain = Context(run_id=1, node_id=0, node_config={}, state=state, run_config={})
    context = LegacyContext(plain, strategy=strategy)  # type: ignore[arg-type]
    context.state = state
    grid = InProcess(settings)
    workflow = SecAggPlusWorkflow(
        num_shares=settings["shares"],
        reconstruction_threshold=settings["threshold"],
        max_weight=float(max(settings["weights"])),
        clipping_range=settings["clip"],
    )
    started = time.process_time()
    workflow(grid, context)  # type: ignore[arg-type]
    server = time.process_time() - started - grid.harness
    error = None if strategy.mean is None else worst_error(settings, strategy.mean)
    result = {
        "device_s": (grid.seconds - grid.training) / devices,
        "server_s": server,
        "up": grid.up / devices,
        "down": grid.down / devices,
        "error": error,
    }
    Path(sys.argv[2]).write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
