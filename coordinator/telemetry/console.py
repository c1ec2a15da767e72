"""The operator's console: one line for every event of the service, and the table of `status`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import to_builtins
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordinator.config import describe_changes
from coordinator.identity import Holder
from coordinator.rounds import Awaited, State, SumProgress, sums_of
from coordinator.telemetry.broker import Glance
from edge_sdk.streams import printable

_WORK = {"state": "everything", "updates": "an update", "learning": "learning"}
_MUTED = frozenset({"adapter_delivered", "device_online", "status"})


class Narrator:
    """Prints events as they happen. Pass its `tell` to a Service as `on_event`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def tell(self, event: Mapping[str, Any]) -> None:
        """Print one event."""
        if event["event"] in _MUTED:
            return
        clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        self._console.print(f"[dim]{clock}[/dim]  {describe(event)}", soft_wrap=True, highlight=False)


def escaped(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event whose texts, which devices and brokers have written, are neither markup nor terminal controls."""
    return {key: escape(printable(value)) if isinstance(value, str) else value for key, value in event.items()}


def describe(event: Mapping[str, Any]) -> str:
    """Return one event in words, as rich markup."""
    e = escaped(event)
    match e["event"]:
        case "coordinator_started":
            return f"coordinating, {e['round']} of {e['rounds']} rounds done (start {e['epoch']})"
        case "coordinator_superseded":
            return f"[yellow]another coordinator (start {e['epoch']}) has taken over[/yellow]"
        case "settings_changed":
            return (
                f"[yellow]the file was changed[/yellow]: {escape(describe_changes(event['changed'], event['notes']))}"
            )
        case "clock_suspect":
            return f"[yellow]clock[/yellow]: {e['reason']}"
        case "key_changed":
            return (
                f"[red]another key[/red]: {e['now']}. Devices that trust {e['before']} do not listen to this "
                "coordinator: bring keys.json back, or give their owners the new fingerprint (impasto join --trust)"
            )
        case "home_awaited":
            return f"[yellow]another coordinator[/yellow] has this home open ({e['holder']}): it is asked to give way"
        case "home_unlocked":
            return (
                f"[yellow]no locks[/yellow] on the disk of {e['home']}: see that no second coordinator is started there"
            )
        case "store_unavailable":
            return f"[red]the store does not work[/red] ({_WORK[e['work']]} waits), it is tried again: {e['reason']}"
        case "store_back":
            return f"the store works again after {e['seconds']:.0f} s ({_WORK[e['work']]} goes on)"
        case "adapters_lost":
            return _lost(event)
        case "device_doubled":
            return (
                f"[red]two devices are {e['device']}[/red] (a copied card or home folder): only one of them counts. "
                "Give each a home and a name of its own"
            )
        case "coordinator_stopped":
            return f"stopped after round {e['round']}; {_traffic(event)}"
        case "device_joined":
            return f"[cyan]{e['device']}[/cyan] joined with {e['pictures']} pictures"
        case "device_left":
            return f"[cyan]{e['device']}[/cyan] left{': ' + e['reason'] if e['reason'] else ''}"
        case "device_back":
            return f"[cyan]{e['device']}[/cyan] takes part again"
        case "device_forgotten":
            return f"[cyan]{e['device']}[/cyan] makes room for a newcomer"
        case "device_erased":
            return f"[cyan]{e['device']}[/cyan] was forgotten, as its owner asked"
        case "device_offline":
            return f"[cyan]{e['device']}[/cyan] [yellow]is offline[/yellow]"
        case "device_placed":
            return f"[cyan]{e['device']}[/cyan] came late, cluster {e['cluster']}"
        case "clusters":
            return f"clusters for round {e['round']}: {_sizes(event['assignment'])}"
        case "question_asked":
            return (
                f"clustering {e['clustering']}, question {e['question']} ({e['kind']}): {len(e['cohort'])} devices "
                "answer under masks"
            )
        case "question_abandoned":
            return f"[yellow]the question is asked again[/yellow]: {e['reason']}"
        case "clustering_begun_anew":
            return f"[yellow]the clustering begins anew[/yellow]: {e['reason']}"
        case "clusters_found":
            return f"{e['clusters']} clusters of {_listed(e['counts'])} devices, among which devices choose alone"
        case "clusters_counted":
            return f"round {e['round']}: clusters of {_listed(e['counts'])} devices, in {max(e['slots']) + 1} slots"
        case "round_started":
            return f"[bold]round {e['round']} of {e['rounds']}[/bold] ({e['stage']}): {len(e['cohort'])} devices"
        case "update_counted":
            cluster = "" if e["cluster"] is None else f" for cluster {e['cluster']}"
            loss = f"loss {e['first_loss']:.4f} -> {e['last_loss']:.4f}"
            late = f" {e['late']} rounds late" if e["late"] else ""
            return f"[cyan]{e['device']}[/cyan] delivered{late}{cluster}, {loss}, {show_bytes(e['size'])}"
        case "device_ready":
            return f"[cyan]{e['device']}[/cyan] is trained{_of_cluster(event)}, and ready for the masked sum"
        case "sum_begun":
            missing = f", without {', '.join(e['missing'])}" if e["missing"] else ""
            return f"masked sum{_of_cluster(event)} of {e['devices']} devices{missing}"
        case "sum_complete":
            dropped = f", without {', '.join(e['dropped'])}" if e["dropped"] else ""
            return f"masked sum{_of_cluster(event)}: {e['devices']} devices are in it{dropped}"
        case "sum_abandoned":
            return (
                f"[yellow]no masked sum[/yellow]{_of_cluster(event)}: {e['devices']} devices are there, "
                f"and it takes {e['needed']} ({e['code']}): {e['reason']}"
            )
        case "round_extended":
            return f"[yellow]round {e['round']} waits once more[/yellow] for {', '.join(e['awaited'])}"
        case "round_abandoned":
            return f"[yellow]round {e['round']} begins again[/yellow]: {e['reason']}"
        case "round_failed":
            return (
                f"[red]round {e['round']} made nothing[/red], adapters stay as they were ({e['code']}): {e['reason']}"
            )
        case "clustering_failed":
            return f"[red]no new clusters for round {e['round']}[/red] ({e['code']}): {e['reason']}"
        case "messages_dropped":
            return f"[yellow]overloaded[/yellow]: dropped {e['messages']} messages and {e['chunks']} chunks"
        case "over_quota":
            who = f"[cyan]{e['device']}[/cyan]" if e["device"] else "devices that have not joined"
            return f"[yellow]too much[/yellow] from {who} ({e['code']}): dropped {e['messages']} messages"
        case "round_closed":
            missing = f", without {', '.join(e['missing'])}" if e["missing"] else ""
            refused = f", [red]{len(e['refused'])} refused[/red]" if e["refused"] else ""
            loss = f"{'mean' if 'clipped' in e else 'median'} loss {e['first_loss']:.4f} -> {e['last_loss']:.4f}"
            if e.get("clipped"):
                loss += f", [yellow]{e['clipped']:.1%} clipped[/yellow] (raise largest_change)"
            head = f"[green]round {e['round']} closed[/green] with {e['updates']} updates{missing}{refused}"
            return f"{head}; {loss}; {_traffic(event)}"
        case "finished":
            return f"[bold green]all {e['rounds']} rounds done[/bold green]; devices take their adapters home"
        case "refused":
            return f"[red]refused[/red] [cyan]{e['device']}[/cyan] ({e['code']}): {e['reason']}"
        case "send_failed":
            many = f" {e['messages']} messages" if e["messages"] > 1 else ""
            return f"[red]not sent{many}[/red] ({e['code']}): {e['reason']}"
        case "password_exposed":
            return f"[yellow]note[/yellow]: the password goes to {e['broker']} in clear; mqtts:// would encrypt it"
        case "broker_unreachable":
            return f"[yellow]no connection to the broker yet[/yellow], trying again: {e['reason']}"
        case "broker_lost":
            return f"[yellow]lost the broker[/yellow], trying to come back: {e['reason']}"
        case "broker_back":
            return f"the broker is back after {e['seconds']:.0f} s"
        case "broker_refused":
            return f"[red]the broker refuses[/red] ({e['code']}): {e['reason']}"
        case "waiting":
            return f"[dim]waiting for {_awaited(e)}[/dim]"
        case _:
            return str(e["event"])


def print_status(
    console: Console, name: str, state: State, counted: Mapping[str, int], holder: Holder | None = None
) -> None:
    """Print a federation in one line, its coordinator, its masked sums, and its devices with their counted updates.

    Args:
        console: where to print.
        name: the federation's name.
        state: its state.
        counted: device -> number of its counted updates; a device that is not in it has none.
        holder: the process that serves it; None if none does.
    """
    clusters = len(state.clusters)
    console.print(
        f"[bold]{name}[/bold]: {state.phase}, {state.round} rounds closed, {clusters} clusters", highlight=False
    )
    console.print(f"served by {holder}" if holder else "nobody serves it from this home", highlight=False, markup=False)
    for progress in sums_of(state):
        console.print(_of_sum(progress), highlight=False, markup=False, soft_wrap=True)
    table = Table()
    for column in ("device", "cluster", "updates", "state"):
        table.add_column(column)
    for device, known in sorted(state.devices.items()):
        presence = "left" if known.left else "online" if known.until is None else "offline" if known.seen else "unseen"
        cluster = "-" if known.cluster is None else str(known.cluster)
        table.add_row(device, cluster, str(counted.get(device, 0)), presence)
    console.print(table)


def _of_sum(progress: SumProgress) -> str:
    """Return the progress of a masked sum in words. All that is said of a vector is that it has come."""
    there = f"{progress.answered} of {progress.devices}"
    match progress.phase:
        case "advertising":
            said = f"{there} devices answer the question" if progress.question else f"{there} devices are trained"
        case "revealing" | "sharing":
            said = f"{there} devices have sent keys"
        case "uploading":
            said = f"{there} masked vectors have come"
        case "consenting":
            said = f"{progress.devices} masked vectors have come, {there} devices agree to the sum"
        case "unmasking":
            said = f"{progress.devices} masked vectors have come, {there} devices have helped to unmask the sum"
        case "abandoned":
            said = f"abandoned ({progress.reason})"
        case _:
            said = f"the sum of {progress.devices} masked vectors is computed"
    return f"masked sum{_of_cluster({'cluster': progress.cluster})}: {said}"


def _of_cluster(event: Mapping[str, Any]) -> str:
    return "" if event["cluster"] is None else f" for cluster {event['cluster']}"


def _lost(event: Mapping[str, Any]) -> str:
    names = escape(", ".join(event["names"]))
    if event["anew"]:
        return f"[red]lost[/red] from the blob store: {names}; what they had learnt begins anew"
    return f"[red]lost[/red] from the blob store: {names}; devices cannot take them home: restore it from a backup"


def print_waiting(console: Console, awaited: Awaited | None, broker: Glance) -> None:
    """Print what a federation waits for, and the state of its broker and coordinator."""
    if awaited and awaited.what != "goodbyes":
        event = {"seconds": None, "left": None, "unjoined": 0, "awaited": awaited.names, **to_builtins(awaited)}
        console.print(f"waiting for {_awaited(event)}", highlight=False, soft_wrap=True)
    if broker.reason:
        console.print(f"broker: [red]out of reach[/red]: {escape(broker.reason)}", highlight=False, soft_wrap=True)
        return
    coordinator = "[green]online[/green]" if broker.online else "[yellow]not online: impasto-coordinator serve[/yellow]"
    console.print(f"broker: {escape(broker.place)} answers; the coordinator is {coordinator}", highlight=False)


def _awaited(e: Mapping[str, Any]) -> str:
    """Return the wait in words."""
    so_far = "" if e["seconds"] is None else f" ({e['seconds']:.0f} s so far)"
    match e["what"]:
        case "broker":
            return f"the broker{so_far}: {e['reason']}"
        case "devices":
            others = (
                f"; {e['unjoined']} more show presence and have not joined: they are refused, or cannot be heard (the "
                "broker's rules)"
                if e["unjoined"]
                else ""
            )
            return f"devices to begin with: {e['there']} of {e['needed']} are there{so_far}{others}"
        case "goodbyes":
            return f"{named(e['awaited'])} to fetch the last adapters and leave{so_far}"
        case "sums":
            left = "" if e["left"] is None else f"; it goes on without them in {e['left']:.0f} s"
            return (
                f"{named(e['awaited']) or 'nobody'} in a masked sum: {e['there']} have answered, {e['needed']} are "
                f"enough{so_far}{left}"
            )
    left = "" if e["left"] is None else f"; the round's deadline is in {e['left']:.0f} s"
    return (
        f"updates of {named(e['awaited']) or 'nobody'}: {e['there']} are there, {e['needed']} are enough{so_far}{left}"
    )


def named(devices: Sequence[str], most: int = 5) -> str:
    """Return a few of many names."""
    more = f" and {len(devices) - most} more" if len(devices) > most else ""
    return ", ".join(devices[:most]) + more


def _listed(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts))


def _sizes(assignment: Mapping[str, int]) -> str:
    sizes = sorted(Counter(assignment.values()).items())
    return ", ".join(f"{cluster} ({count} devices)" for cluster, count in sizes)


def _traffic(event: Mapping[str, Any]) -> str:
    return f"{show_bytes(event['bytes']['up'])} up, {show_bytes(event['bytes']['down'])} down"


def show_bytes(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
