"""The command `impasto bench`.

machine.py   facts of the machine, for the row
parts.py     the names of the parts, and their order
child.py     the process that a part runs in
running.py   the other side of it: progress, deadline, the end
drawing.py   the parts that prepare and draw
training.py  the part that trains
transfer.py  the part that sends an adapter over a broker
report.py    a row for a terminal
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_sdk.cli import connection
from edge_sdk.cli.output import check_outputs
from edge_sdk.cli.terminal import console, print_error, progress_bar


def bench(
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Folder made by impasto-export.", show_default=False)],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", help="The base model, a diffusers folder: measure training too.", show_default=False
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the row to this file.", show_default=False)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Steps of a picture.", show_default="what the bundle says")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, max=100, help="Warm pictures, after the cold one.")] = 3,
    backend: Annotated[str, typer.Option(help="What to draw with: cpu, auto, or one of impasto doctor's.")] = "cpu",
    memory_limit: Annotated[
        str | None, typer.Option(help="Memory that drawing, and training, may take, as 2GB.", show_default="no limit")
    ] = None,
    training_steps: Annotated[int, typer.Option(min=2, max=1000, help="Training steps.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, max=64, help="Pictures a training step.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="all cores")] = None,
    broker: Annotated[
        str | None,
        typer.Option(help="Send the adapter over this broker: mqtt://host:1883.", show_default="one in this machine"),
    ] = None,
    ca: connection.Authority = None,
    certificate: connection.Certificate = None,
    key: connection.Key = None,
    username: connection.Username = None,
    password_file: connection.PasswordFile = None,
    deadline: Annotated[float, typer.Option(min=1, help="Longest time for each part, in seconds.")] = 3600.0,
) -> None:
    """Measure this device: a picture, a training step, a transfer, and the memory that each takes.

    impasto bench -b bundle/ -m model/ --json row.json

    Four parts run one after the other, each in a process of its own, so that its time is that of a fresh start and its
    peak of memory is its own:

    prepare     the graphs for this processor, if that is still to be done
    picture     cold: from the start of the process to the first picture; warm: the next ones
    training    steps on pictures of noise, with --model, where the extra `train` is installed
    transfer    an adapter, through a broker on this machine (the extra `broker`) or through --broker

    A part that fails, or that the system ends for lack of memory, is noted, and the others run all the same. Nothing
    goes over a network, unless you name a --broker. There, two connections of the same user exchange an adapter of
    random numbers; the user has to be allowed to write and read all topics of federation bench-....

    The row of --json holds times, memory, and facts of the machine: processor, cores, memory and limits, throttling,
    temperature, versions, the base id. It holds no name of a user, a host, a folder or a broker, so that you can send
    it in. Run it with nothing else running.
    """
    from edge_sdk.cli.bench import report, running
    from edge_sdk.cli.bench.machine import describe_board, describe_machine
    from edge_sdk.cli.bench.parts import PARTS
    from edge_sdk.errors import BundleError
    from edge_sdk.exits import exit_code
    from edge_sdk.inference import Bundle
    from edge_sdk.inference.bundle import obstacle_in

    about_broker = (ca, certificate, key, username, password_file)
    if broker is None and any(about_broker):
        raise typer.BadParameter("this is about a broker: name it with --broker, too.")
    network = connection.settings(broker, ca, certificate, key, username, password_file, "") if broker else None
    index = Bundle.load(bundle, verify=False).index
    if model is not None and (why := obstacle_in(model)) is not None:
        raise BundleError(f"{model} cannot be trained: {why}")
    if json_file is not None:
        check_outputs([json_file], "row.json")
    asked = {
        "steps": steps or index.defaults.steps,
        "pictures": pictures,
        "backend": backend,
        "memory_limit": memory_limit,
        "training_steps": training_steps,
        "batch_size": batch_size,
        "threads": threads,
    }
    private = {
        "bundle": str(bundle),
        "model": None if model is None else str(model),
        "base_id": index.base_id,
        "broker": None if network is None else running.plain(network),
    }
    row: dict[str, Any] = {
        "format": 1,
        "machine": describe_machine(),
        "board": describe_board(),
        "base_id": index.base_id,
        "image_size": index.image_size,
        "asked": asked | {"broker": "given" if network else "on this machine"},
    }
    errors = []
    with progress_bar() as bar:
        for name in PARTS:
            task = bar.add_task(name, total=None, note="")

            def show(done: int, of: int | None, note: str, task: Any = task) -> None:
                bar.update(task, completed=done, total=of, note=note)

            outcome = running.run(name, asked | private, deadline, show)
            row[name] = outcome.as_values()
            if outcome.error is not None:
                errors.append(outcome.error)
            bar.remove_task(task)
    row["board_after"] = describe_board()
    for part in report.lines(row):
        console().print(part, markup=False, soft_wrap=True)
    if json_file is not None:
        from edge_sdk import durable

        durable.write(json_file, (json.dumps(row, indent=1) + "\n").encode())
        console().print(f"{json_file}: the row, which can be sent in as it is.", markup=False, soft_wrap=True)
    for error in errors:
        print_error(error)
    if errors:
        raise typer.Exit(exit_code(errors[0]))
