"""Command line of the coordinator: serve, assist, init, status, invite, revoke, key, methods, simulate."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from coordinator import config, rounds
from coordinator.identity import Admissions, Keys, serving
from coordinator.methods.clustering import RULES, ByPicture
from coordinator.server import Service
from coordinator.store import Database
from coordinator.telemetry import EventFile, Narrator, Observers, OnEvent, look, print_status, print_waiting
from edge_sdk import durable
from edge_sdk.errors import ConfigurationError, ImpastoError, describe
from edge_sdk.exits import Exit, exit_by_fault, exit_code
from edge_sdk.service_manager import ServiceManager
from edge_sdk.streams import printable, take_any_text
from edge_sdk.wire import Form, Invitation, check_name, clock_trouble, fingerprint

app = typer.Typer(
    name="impasto-coordinator",
    help="Coordinate a federation of devices that share adapters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # those show local variables, passwords among them
)

_CODE_LENGTH = (
    "code_dimensions: the bundle does not state how long prompt codes are, so that devices decide it. Set it to the "
    "length that yours send."
)
_NO_ENCODER = (
    'clustering.method: "picture" is as "fused", as the bundle has no image encoder. Export it with --image-encoder, '
    "and give all devices the same bundle."
)
_FORMS: tuple[Form, ...] = ("open", "blank")
FederationFile = Annotated[Path, typer.Argument(metavar="FEDERATION.toml", help="The federation file.")]


@app.command()
def serve(
    federation: FederationFile,
    once: Annotated[bool, typer.Option("--once", help="End when the last round is closed and served.")] = False,
    events: Annotated[Path | None, typer.Option(help="Append every event to this file, as JSON lines.")] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT", help="Answer Prometheus there; without a host on this machine alone: 127.0.0.1."
        ),
    ] = None,
    client_id: Annotated[
        str,
        typer.Option(
            help="MQTT client id, where the broker's rules ask for a certain one.",
            show_default="one that nobody can guess",
        ),
    ] = "",
) -> None:
    """Run the rounds of a federation. Start it again to resume; stop it with Ctrl+C.

    Started by systemd (Type=notify), it says when it is ready, and at each turn of its loop that it works.
    """
    loaded = config.load(federation)
    _tell_what_has_no_effect(loaded)
    hearers: list[OnEvent] = []
    screen = Console()
    with ExitStack() as stack:
        if events:
            file = EventFile(events, _warn)
            hearers.append(stack.enter_context(file).tell)
        if metrics:
            from coordinator.telemetry import Exposition, Metrics

            figures = Metrics()
            stack.enter_context(Exposition(figures, metrics))
            hearers.append(figures.observe)
        narrator = Narrator(screen)
        unstated = loaded.rules(config.read_base_model(loaded.description, loaded.layers)).code_size is None

        def narrate(event: dict[str, Any]) -> None:
            with suppress(OSError):  # where the screen is a file, its disk may be full
                narrator.tell(event)
                if event["event"] == "coordinator_started" and unstated:
                    Console(stderr=True).print(
                        f"[yellow]note[/yellow]: {_CODE_LENGTH}", highlight=False, soft_wrap=True
                    )

        on_event = Observers([*hearers, narrate], _warn)
        service = Service(loaded, settings=replace(loaded.connection(), client_id=client_id), on_event=on_event)
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: service.stop()))
        manager = ServiceManager()
        service.run(once=once, on_turn=manager.working)
        manager.stopping()


@app.command()
def assist(
    federation: FederationFile,
    name: Annotated[
        str, typer.Option(help="The helper's name; helpers of a federation have different ones.")
    ] = "helper",
    adapters: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Draw with the .safetensors files of this folder.",
            show_default="those that the coordinator has published",
        ),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(help="What may stand for a prompt: open, blank. Repeat it for both.", show_default="both"),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="Requests that may wait.")] = 16,
    together: Annotated[int, typer.Option(min=1, max=64, help="Requests that may be drawn at once.")] = 4,
    per_device: Annotated[int, typer.Option(min=1, max=1000, help="Requests of one device that may wait.")] = 2,
    a_minute: Annotated[int, typer.Option(min=1, max=10_000, help="Requests of one device in a minute.")] = 12,
    largest: Annotated[
        int | None,
        typer.Option(min=8, max=4096, help="Pixels a side of the largest square picture.", show_default="as trained"),
    ] = None,
    backend: Annotated[str, typer.Option(help="What to draw with, see impasto doctor.")] = "cpu",
    memory_limit: Annotated[
        str | None, typer.Option(help="Memory that drawing may take, such as 4GB.", show_default="no limit")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="all cores")] = None,
    events: Annotated[Path | None, typer.Option(help="Append every event to this file, as JSON lines.")] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT", help="Answer Prometheus there; without a host on this machine alone: 127.0.0.1."
        ),
    ] = None,
) -> None:
    """Draw the first steps of pictures for devices that have joined. Several may run; stop it with Ctrl+C.

    impasto-coordinator assist stickers.toml --name desk-1

    It uses the federation's bundle, broker, home and database. docs/assist.md
    says what devices send to it.
    """
    loaded = config.load(federation)
    forms = [known for known in _FORMS if form is None or known in form]
    if unknown := [given for given in form or [] if given not in _FORMS]:
        raise typer.BadParameter(f"there is no form {unknown[0]!r}; choose open, blank or both.")
    if loaded.bundle is None:
        raise ConfigurationError(
            f"{federation} names a copy of impasto.json, and a helper draws: set `bundle` to the bundle itself."
        )
    from coordinator.assist import Helper, HelperMetrics, HelperSettings, Limits, describe
    from edge_sdk.inference import Generator

    screen = Console()
    hearers: list[OnEvent] = []
    with ExitStack() as stack:
        if events:
            file = EventFile(events, _warn)
            hearers.append(stack.enter_context(file).tell)
        if metrics:
            from coordinator.telemetry import Exposition

            figures = HelperMetrics()
            stack.enter_context(Exposition(figures, metrics))
            hearers.append(figures.observe)

        def narrate(event: dict[str, Any]) -> None:
            if said := describe(event):
                with suppress(OSError):
                    screen.print(said, highlight=False, soft_wrap=True)

        try:
            generator = Generator.load(loaded.bundle, threads=threads, backend=backend, memory_limit=memory_limit)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        limits = Limits(queue=queue, together=together, per_device=per_device, a_minute=a_minute)
        settings = HelperSettings(name, tuple(forms), largest, limits, adapters)
        helper = Helper(loaded, generator, settings, on_event=Observers([*hearers, narrate], _warn))
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: helper.stop()))
        helper.run()


def _warn(reason: str) -> None:
    Console(stderr=True).print(reason, style="red", markup=False, soft_wrap=True)


@app.command()
def init(
    federation: FederationFile,
    bundle: Annotated[str, typer.Option(help="The bundle of the base model.")] = "bundle",
    broker: Annotated[str, typer.Option(help="The broker's URL.")] = "mqtt://127.0.0.1:1883",
) -> None:
    """Write a commented federation file to start from. The file's name without .toml becomes the federation's name."""
    name = config.name_from(federation.stem)
    text = config.template(name, bundle, broker)
    config.parse(text, folder=federation.parent, source=str(federation))
    try:
        if os.path.lexists(federation):
            raise FileExistsError
        durable.write(federation, text.encode())
    except FileExistsError as error:
        raise ConfigurationError(f"{federation} exists already: choose another name, or delete it first.") from error
    except OSError as error:
        raise ConfigurationError(f"Cannot write {federation}: {error.strerror}.") from error
    named = f" for federation {name!r}, which is what can stand in a topic" if name != federation.stem else ""
    Console().print(
        f"Wrote {federation}{named}. Next: impasto-coordinator serve {federation}", highlight=False, markup=False
    )


@app.command()
def status(federation: FederationFile) -> None:
    """Show devices, rounds, what the federation waits for, and its broker, whether or not a coordinator is running."""
    loaded = config.load(federation)
    if loaded.database_file and not loaded.database_file.exists():
        raise ConfigurationError(
            f"Federation {loaded.name!r} has not been served yet: impasto-coordinator serve {federation}"
        )
    base = config.read_base_model(loaded.description, loaded.layers)
    database = Database(loaded.database, loaded.name, base.base_id)
    try:
        state = database.load()
        print_status(Console(), loaded.name, state, database.counted(), serving(loaded.home))
    finally:
        database.close()
    rules = loaded.rules(base)
    waits_for = rounds.awaited(rules, state, time.monotonic())
    print_waiting(Console(), waits_for, look(loaded.connection(), loaded.name))


@app.command()
def invite(
    federation: FederationFile,
    device: Annotated[str, typer.Argument(help="The device's name: the one that the broker knows it by.")],
    hours: Annotated[float, typer.Option(min=0.01, max=10000, help="How long the invitation holds.")] = 72.0,
) -> None:
    """Print a one-time invitation for a device. Its owner uses it with: impasto join --invitation-file FILE.

    A new invitation replaces an earlier one for the same device and lifts a
    revocation. It is needed where the federation file says join = "invited";
    elsewhere it saves the owner from comparing the key's fingerprint.
    """
    loaded = config.load(federation)
    public = Keys(loaded.home, loaded.name).signer.public
    with _admissions(loaded) as (admissions, latest):
        if reason := clock_trouble(latest, time.time()):
            Console(stderr=True).print(f"Until when it holds may be wrong. {reason}", style="yellow", soft_wrap=True)
        secret = admissions.invite(check_name(device), time.time() + 3600 * hours)
    Console().print(Invitation(loaded.name, device, public, secret).to_text(), highlight=False, soft_wrap=True)


@app.command()
def revoke(federation: FederationFile, device: Annotated[str, typer.Argument(help="The device's name.")]) -> None:
    """Shut a device out: nothing that it sends counts any more. Revoke its certificate at the broker, too."""
    loaded = config.load(federation)
    with _admissions(loaded) as (admissions, _):
        admissions.revoke(check_name(device))
    Console().print(f"{device} is shut out of {loaded.name}", highlight=False)


@app.command()
def key(
    federation: FederationFile,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Take a new key, for which the old one vouches; then restart `serve`.")
    ] = False,
) -> None:
    """Show the fingerprint of the key that signs adapters; devices trust this key and no other.

    Compare it with the one that `impasto join` shows on a device, or pass it to `impasto join --trust`.
    """
    loaded = config.load(federation)
    keys = Keys(loaded.home, loaded.name)
    if rotate:
        keys.rotate()
    Console().print(fingerprint(keys.signer.public), highlight=False, soft_wrap=True)


@app.command()
def simulate(
    federation: FederationFile,
    devices: Annotated[Path, typer.Argument(metavar="DEVICES/", help="Folder with one sub-folder for each device.")],
    model: Annotated[
        Path,
        typer.Option(
            "--model", "-m", help="The diffusers folder that the file's bundle was exported from.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the adapters into this new folder.", show_default=False)
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--json", help="Write all figures into this file.", show_default=False)
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.9,
            help="Share of each device's pictures to judge by, not to learn from; the seed chooses them.",
        ),
    ] = 0.2,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="torch's choice")] = None,
) -> None:
    """Try a federation offline: all its rounds in one process, with real training on a folder of devices.

    impasto-coordinator simulate stickers.toml devices/ --model model/ --out learnt/

    Each sub-folder of DEVICES/ is a device. It holds pictures, and captions in
    metadata.jsonl or in a .txt file beside each picture. A device that trains
    smaller ranks than the others also holds a device.toml: max_rank = 4

    Rounds, training and methods are those of the file. No broker is used,
    every device delivers in every round. Nothing leaves the process.
    [clustering] method = "ifca" works here only.

    The result: losses, bytes and retained energy of every round; the cluster
    of each device, and its loss before and after. Draw with it:
    impasto generate "a fox" -b bundle/ --home learnt/ -a root -a cluster-0

    Needs torch: pip install "impasto\\[train]"
    """
    loaded = config.load(federation)
    _tell_what_has_no_effect(loaded)
    from coordinator.simulation.offline import check_places, read_folders, write_adapters, write_json
    from edge_sdk.pictures import PictureLeftOut

    console = Console()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PictureLeftOut)
        folders = read_folders(devices, rank=loaded.rank, held_out=held_out, seed=loaded.seed)
    for warning in caught:
        console.print(f"note: {warning.message}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    check_places(out, results)
    from coordinator.simulation.offline import Run, Screen, print_result

    screen = Screen(console, len(folders), loaded.rounds, loaded.steps)
    with screen.shown():
        result, outcomes = Run(loaded, folders, model, threads).start(screen.tell)
    print_result(console, result)
    if results:
        write_json(result, results)
    if out:
        files = write_adapters(outcomes, out, home_factor=loaded.aggregator.home_factor)
        console.print(f"{len(files)} adapters in {out}", soft_wrap=True, markup=False, highlight=False)


@app.command()
def methods() -> None:
    """List the methods that a federation file may name, other packages' too, with their keys and defaults."""
    listing = Table.grid(padding=(0, 2))
    for table, family in config.FAMILIES.items():
        listing.add_row(Text(f"[{table}]", "bold"))
        for method in (*family.registry, *family.offline):
            note = " (default)" if method == family.default else " (simulate only)" if method in family.offline else ""
            listing.add_row(Text(f"  {method}{note}"), Text(family.keys_of(method)))
    Console().print(listing, highlight=False)
    Console().print(f"choose = {', '.join(RULES)}", highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the console script; print an error in one line. Exit codes: docs/exit-codes.md."""
    take_any_text()
    try:
        app(arguments)
    except (ImpastoError, OSError, SQLAlchemyError) as error:
        said = str(error).partition("\n")[0]  # SQLAlchemy adds the statement and its values
        reason = escape(describe(error) if isinstance(error, OSError) else printable(said))
        Console(stderr=True).print(f"[red]{type(error).__name__}[/red]: {reason}", highlight=False, soft_wrap=True)
        sys.exit(Exit.STORAGE if isinstance(error, SQLAlchemyError) else exit_code(error))
    except Exception as error:
        exit_by_fault(error)
    sys.exit(Exit.DONE)


def _tell_what_has_no_effect(loaded: config.Federation) -> None:
    notes = config.without_effect(loaded)
    if isinstance(loaded.clustering, ByPicture):
        base = config.read_base_model(loaded.description, loaded.layers)
        notes += [_NO_ENCODER] if base.picture_dimensions is None else []
    for text in notes:
        Console(stderr=True).print(f"[yellow]note[/yellow]: {escape(text)}", highlight=False, soft_wrap=True)


@contextmanager
def _admissions(loaded: config.Federation) -> Iterator[tuple[Admissions, int]]:
    """Open the admissions of a federation, with the epoch of the coordinator's latest start."""
    database = Database(loaded.database, loaded.name, config.read_base_model(loaded.description, loaded.layers).base_id)
    try:
        yield Admissions(database.engine, by_invitation=loaded.join == "invited"), database.latest_epoch()
    finally:
        database.close()


if __name__ == "__main__":
    main()
