"""The command `impasto join`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_sdk.cli import connection
from edge_sdk.cli.interruption import Interruption
from edge_sdk.cli.sizes import MemoryLimit
from edge_sdk.cli.terminal import console, printed_warnings
from edge_sdk.service_manager import ServiceManager
from edge_sdk.streams import printable

if TYPE_CHECKING:
    from edge_sdk.privacy import Level

_WORDS = {
    "joined": "joined; {rounds} rounds",
    "round_started": "round {round} of {rounds} starts: {stage} adapter",
    "adapter_received": "received {name} ({size:,} bytes)",
    "trained": "round {round}: loss {first_loss:.3f} to {last_loss:.3f} in {train_seconds:.0f} s",
    "update_committed": "round {round}: update handed in ({size:,} bytes)",
    "update_refused": "round {round}: update refused: {reason}",
    "update_resumed": "round {round}: update was trained before",
    "sum_begun": "round {round}: the update stays here; what it has learnt goes into a sum under masks",
    "sum_refused": "masked sum: {reason}",
    "round_done": "round {round} done: {updates} updates",
    "transfer_failed": "a transfer failed: {reason}",
    "password_exposed": "note: the password goes to {broker} in clear; mqtts:// would encrypt it",
    "broker_unreachable": "no connection to the broker yet, trying again: {reason}",
    "broker_lost": "lost the broker, trying to come back: {reason}",
    "broker_back": "the broker is back",
    "broker_refused": "the broker refuses: {reason}",
    "waiting": "waiting for {what} ({seconds:.0f} s so far, at most {left:.0f} s more){because}",
    "coordinator_online": "the coordinator is online",
    "privacy_agreed": "{codes} of level {level}{kept}. {visible}",
    "question_asked": "question {question} of the clustering: the answer goes into a sum under masks",
    "budget_spent": "answers so far have spent epsilon {epsilon:.3g} of {allowed:g} (delta {delta:g})",
    "question_refused": "a question of the clustering is not answered: {reason}",
    "coordinator_trusted": "trusting the coordinator's key {key}",
    "coordinator_untrusted": "not listened to: {reason}",
    "step_refused": "refused: {reason}",
    "message_refused": "the coordinator refused a message: {reason}",
    "clock_suspect": "clock: {reason}",
    "identity_shared": "round {round}: {reason}",
    "update_unkept": "round {round}: the update cannot be kept, and is handed in at once: {reason}",
    "federation_ended": "the federation has ended, and all of its adapters came before: they are put in place",
    "coordinator_offline": "the coordinator is offline; waiting for it",
    "finished": "finished",
}


def join(
    broker: Annotated[
        str, typer.Option("--broker", help="mqtt://host:1883, or mqtts://host:8883.", show_default=False)
    ],
    federation: Annotated[str, typer.Option("--federation", "-f", help="Its name.", show_default=False)],
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Folder made by impasto-export.", show_default=False)],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="The base model: a diffusers folder.", show_default=False)
    ],
    pictures: Annotated[
        Path, typer.Option("--pictures", "-p", help="Folder of pictures with captions.", show_default=False)
    ],
    home: Annotated[Path, typer.Option(help="Where adapters and unfinished work are kept.")] = Path("~/.impasto"),
    device_id: connection.DeviceId = None,
    ca: connection.Authority = None,
    certificate: connection.Certificate = None,
    key: connection.Key = None,
    username: connection.Username = None,
    password_file: connection.PasswordFile = None,
    client_id: connection.ClientId = "",
    trust: Annotated[
        str | None,
        typer.Option(
            help="Fingerprint of the coordinator's key.", show_default="the first that is met, then only that"
        ),
    ] = None,
    invitation_file: connection.InvitationFile = None,
    bandwidth: Annotated[
        str | None, typer.Option(help='How fast updates may go out, such as "512 KB/s".', show_default="no limit")
    ] = None,
    privacy: Annotated[
        list[str] | None,
        typer.Option(
            help="Privacy level that you allow for codes: coarse, local (none leaves), local+dp (and noise), plain; "
            "may repeat.",
            show_default="coarse",
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(help="With local+dp: the largest epsilon that you allow in all.", show_default="none"),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Leave after so many rounds.", show_default="stay to the end")
    ] = None,
    deadline: Annotated[float, typer.Option(min=1, help="Longest wait for the coordinator, in seconds.")] = 3600.0,
    picture_code: Annotated[
        bool,
        typer.Option(
            "--picture-code/--no-picture-code",
            help="Send one code of all pictures, which gives their style away; the coordinator groups devices by it.",
        ),
    ] = True,
    masked_only: Annotated[
        bool,
        typer.Option(
            "--masked-only/--no-masked-only",
            help="Take part only if updates are summed under masks, so that the coordinator sees none by itself.",
        ),
    ] = False,
    mirror: Annotated[
        bool, typer.Option(help="Learn from mirrored pictures too; not for lettering, or if sides matter.")
    ] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="torch's choice")] = None,
    memory_limit: MemoryLimit = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines, for programs.")] = False,
) -> None:
    """Take part in a federation: train when asked, share adapters, bring home what all have learned.

    impasto join --broker mqtt://broker:1883 -f stickers -b bundle/ -m model/ -p my_pictures/

    Pictures and captions never leave the device; a prompt code, a picture code and adapters do. If it is interrupted,
    run the same command again: it goes on where it was. Ctrl-C and SIGTERM end it after the present training step: the
    coordinator is told, and the state is saved. Started by systemd (Type=notify), it says when it is ready,
    what it does, and that it works: at each turn of its loop, and after each training step.
    """
    from edge_sdk.device import Device
    from edge_sdk.pictures import PictureLeftOut
    from edge_sdk.privacy import DEFAULT

    settings = connection.settings(broker, ca, certificate, key, username, password_file, client_id)

    unwritten: list[OSError] = []
    manager = ServiceManager()

    def show(event: dict[str, Any]) -> None:
        words = _words(event)
        if words is not None:
            manager.status(words)
        try:
            _print_event(event, words, as_json)
        except OSError as error:  # nobody reads on, or the disk is full
            unwritten.append(error)
            membership.stop()

    device = Device(
        bundle,
        model=model,
        pictures=pictures,
        home=home,
        threads=threads,
        mirror=mirror,
        memory_limit=memory_limit,
    )
    with printed_warnings(PictureLeftOut):
        membership = device.join(
            settings,
            federation=federation,
            device_id=device_id,
            privacy=privacy or DEFAULT,
            epsilon=epsilon,
            share_picture_code=picture_code,
            masked_only=masked_only,
            trust=trust,
            invitation=connection.invitation(invitation_file),
            bandwidth=bandwidth,
            on_event=show,
            on_turn=manager.working,
        )
    from edge_sdk.training import CheckpointUnwritten

    interruption = Interruption("leaving after the present step; once more ends at once", membership.stop)
    with interruption, membership, printed_warnings(CheckpointUnwritten):
        result = membership.run(rounds, deadline=deadline)
    manager.stopping()
    if unwritten:
        raise unwritten[0]
    if interruption.asked and not result.finished:
        said = "Stopped. What was trained is kept: run the same command again to go on."
        console(stderr=True).print(said, soft_wrap=True)
        interruption.end()
    if not as_json:
        names = ", ".join(result.adapters) or "no adapters yet"
        console().print(f"at home in {home}: {names}", markup=False, soft_wrap=True)


def _print_event(event: dict[str, Any], words: str | None, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event), flush=True)
    elif words is not None:
        console().print(printable(words), markup=False, soft_wrap=True)


def _words(event: dict[str, Any]) -> str | None:
    """An event in words; None if it has none."""
    if event["event"] not in _WORDS:
        return None
    from edge_sdk.privacy import LEVELS

    trouble, level, pictured = event.get("trouble"), LEVELS.get(event.get("level", "")), event.get("picture_code")
    shown = [level.hides_not, *([level.shows_pictures] if pictured else [])] if level else []
    return _WORDS[event["event"]].format(
        because=f": {trouble}" if trouble else "",
        codes=_codes(level, pictured=bool(pictured)),
        kept=f", epsilon {event['epsilon']:g}, delta {event['delta']:g}" if "delta" in event else "",
        visible=" ".join(shown),
        **event,
    )


def _codes(level: Level | None, *, pictured: bool) -> str:
    if level is not None and not level.leaves:
        return "sending no code; choosing a cluster alone, by a code"
    return f"sending a prompt code{' and a picture code' if pictured else ''}"
