"""The Flower app of benchmarks.transport: arrays of an adapter's size go there and back, without training."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


def shapes() -> Iterator[tuple[int, int]]:
    """The LoRA factors of Stable Diffusion 1.5 at rank 4, as in benchmarks/transport_content.py."""
    for channels, blocks in ((320, 5), (640, 5), (1280, 6)):
        for _ in range(blocks):
            for width in (*[channels] * 6, 768, 768):
                yield (4, width)
                yield (channels, 4)


@client.train()
def train(message: Message, context: Context) -> Message:
    """Add a constant instead of training."""
    arrays = message.content["arrays"].to_numpy_ndarrays()
    moved = ArrayRecord([array + np.float32(1e-3) for array in arrays])
    return Message(
        content=RecordDict({"arrays": moved, "metrics": MetricRecord({"num-examples": 10})}), reply_to=message
    )


class Timed(FedAvg):
    """FedAvg that prints the time at which each round is done."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        result = super().aggregate_train(server_round, replies)
        tell(round=server_round, replies=sum(not reply.has_error() for reply in replies))
        return result


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds with all nodes."""
    rng = np.random.default_rng(0)
    arrays = ArrayRecord([rng.standard_normal(shape, np.float32) for shape in shapes()])
    nodes = int(context.run_config["nodes"])
    strategy = Timed(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=nodes,
        min_available_nodes=nodes,
        min_evaluate_nodes=0,
    )
    tell(round=0, replies=0)
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(context.run_config["rounds"]))


def tell(**values: int) -> None:
    """Print values to standard output, which ends up in the log of the run."""
    print("IMPASTO", json.dumps({**values, "time": time.time()}), flush=True)
