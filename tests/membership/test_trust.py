"""Trust in the coordinator: signatures, keys, and what is older than what was heard."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_sdk.errors import (
    CoordinatorUntrusted,
    MessageOutdated,
    SignatureInvalid,
    UnknownFederation,
)
from edge_sdk.membership.home import Home
from edge_sdk.wire.messages import (
    Finished,
    Join,
    Message,
    Offer,
    SignedStep,
    Welcome,
    decode_step,
    encode,
)
from edge_sdk.wire.signing import Signer, fingerprint, new_key
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.membership.stage import Learner, Me, Stage, join, start, trust


def test_what_somebody_else_has_signed_is_not_heard(url: str, stage: Stage, tmp_path: Path) -> None:
    learn = Learner()
    me = Me(url, tmp_path, learn)
    join(stage)
    ours, stage.signer = stage.signer, Signer(new_key(), "tastes")
    stage.say(start(1, start=stage.serve(random_adapter(2), "cluster", "cluster-1")))
    stage.online(epoch=2)
    stage.signer, stage.epoch = ours, 1
    stage.say(start(2, start=stage.serve(random_adapter(3), "cluster", "cluster-1")))
    offer = stage.hear(Offer)
    assert offer.round == 2
    stage.take(offer)
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    assert me.result().updates == 1
    assert [plan.round for plan in learn.plans] == [2]
    assert [event["code"] for event in me.named("step_refused")] == ["SignatureInvalid"]
    assert [event["code"] for event in me.named("coordinator_untrusted")] == ["CoordinatorUntrusted"]


FORGED: dict[str, tuple[str, Callable[[Stage], Message]]] = {
    "an end that nobody signed": ("SignatureInvalid", lambda stage: the_end()),
    "a round that nobody signed": ("SignatureInvalid", lambda stage: start(3, steps=2**31 - 1)),
    "an end under a signature of zeros": (
        "SignatureInvalid",
        lambda stage: SignedStep(epoch=7, step=encode(the_end()), signature=bytes(64)),
    ),
    "an end by somebody else": (
        "SignatureInvalid",
        lambda stage: Signer(new_key(), "tastes").signed(the_end(), "me", 7),
    ),
    "an end for another device": ("SignatureInvalid", lambda stage: stage.signer.signed(the_end(), "you", 7)),
    "an end of another federation": (
        "SignatureInvalid",
        lambda stage: Signer(bytes(32), "paintings").signed(the_end(), "me", 7),
    ),
    "a round that was made longer": ("SignatureInvalid", lambda stage: longer(stage.signer.signed(start(3), "me", 7))),
    "an end of an earlier life": ("MessageOutdated", lambda stage: stage.signer.signed(the_end(), "me", 6)),
    "an end that was moved to this life": (
        "SignatureInvalid",
        lambda stage: replace(stage.signer.signed(the_end(), "me", 6), epoch=7),
    ),
    "an earlier round of this life": ("MessageOutdated", lambda stage: stage.signer.signed(start(1), "me", 7)),
    "a welcome under a good signature": ("MessageInvalid", lambda stage: signed_welcome(stage.signer)),
}


def the_end() -> Finished:
    return Finished(rounds=3, cluster=0, adapters=[])


def longer(said: SignedStep) -> SignedStep:
    return replace(said, step=encode(replace(decode_step(said.step), steps=10**6)))


def signed_welcome(signer: Signer) -> SignedStep:
    return signer.signed(Welcome(round=0, rounds=3), "me", 7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FORGED)
def test_forged_and_repeated_steps_change_nothing(url: str, stage: Stage, tmp_path: Path, name: str) -> None:
    """The adapters to draw with stay, above all."""
    code, forge = FORGED[name]
    Home(tmp_path)
    drawn_with = {tmp_path / f"{name}.safetensors": name.encode() for name in ("root", "cluster", "clusters/0")}
    for path, data in drawn_with.items():
        path.write_bytes(data)
    learn = Learner()
    me = Me(url, tmp_path, learn)
    stage.online(epoch=7)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(start(2))
    stage.take(stage.hear(Offer))
    stage.say_as_it_is(forge(stage))
    stage.say(start(3))
    assert stage.hear(Offer).round == 3
    assert [event["code"] for event in me.named("step_refused")] == [code]
    assert [(plan.round, plan.steps) for plan in learn.plans] == [(2, 5), (3, 5)]
    assert {path: path.read_bytes() for path in drawn_with} == drawn_with


def test_what_was_heard_is_remembered_by_the_next_session(url: str, stage: Stage, tmp_path: Path) -> None:
    """The broker may have kept old messages of the coordinator. A new message is another matter."""
    old = (
        stage.signer.state(online=True, epoch=6, base_id=BASE_ID, level="plain"),
        stage.signer.signed(the_end(), "me", 6),
    )
    me = Me(url, tmp_path, Learner(), rounds=1)
    stage.online(epoch=7)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(start(1))
    stage.take(stage.hear(Offer))
    stage.say(start(2))
    assert not me.result().finished
    stage.show(old[0])
    outdated = Me(url, tmp_path, Learner(), answer=0.5).error()
    assert isinstance(outdated, MessageOutdated)
    assert "start 6" in str(outdated)
    again = Me(url, tmp_path, Learner())
    stage.online(epoch=7)
    stage.hear(Join)
    stage.say(Welcome(round=1, rounds=3))
    stage.say_as_it_is(old[1])
    stage.say(start(1))
    stage.say(start(2))  # as it did before
    assert stage.hear(Offer).round == 2
    assert [event["code"] for event in again.named("step_refused")] == ["MessageOutdated"] * 2


def test_the_late_will_of_an_earlier_life_is_not_worth_a_word(url: str, stage: Stage, tmp_path: Path) -> None:
    me = Me(url, tmp_path, Learner())
    stage.online(epoch=7)
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.show(stage.signer.state(online=False, epoch=6, base_id=BASE_ID, level="plain"))
    stage.say(start())
    stage.hear(Offer)
    assert me.named("coordinator_offline") == me.named("coordinator_untrusted") == []


@pytest.mark.parametrize("change", ["key", "online", "epoch", "base_id", "signature", "federation"])
def test_a_state_that_was_changed_is_not_believed(url: str, stage: Stage, tmp_path: Path, change: str) -> None:
    good = stage.signer.state(online=False, epoch=7, base_id=BASE_ID, level="plain")
    values = {
        "key": Signer(new_key(), "tastes").public,
        "online": True,
        "epoch": 8,
        "base_id": "c" * 64,
        "signature": bytes(64),
        "federation": "paintings",
    }
    stage.show(replace(good, **{"online": True, change: values[change]}))
    error = Me(url, tmp_path, Learner(), answer=0.5).error()
    assert isinstance(error, SignatureInvalid)
    with closing(Home(tmp_path).journal()) as journal:
        assert (journal.trusted_key, journal.heard) == (None, (0, 0))


def test_a_coordinator_of_another_key_is_not_joined(url: str, stage: Stage, tmp_path: Path) -> None:
    trust(tmp_path, bytes(range(32)))
    stage.online()
    error = Me(url, tmp_path, Learner(), answer=0.5).error()
    assert isinstance(error, CoordinatorUntrusted)
    assert "--trust" in str(error)


def test_a_key_that_was_left_behind_is_not_the_first_to_be_trusted(url: str, stage: Stage, tmp_path: Path) -> None:
    """A coordinator that is gone for ever may have left its state on the broker."""
    ours, stage.signer = stage.signer, Signer(new_key(), "tastes")
    stage.online(online=False)
    assert isinstance(Me(url, tmp_path, Learner(), answer=0.5).error(), UnknownFederation)
    stage.signer = ours
    me = Me(url, tmp_path, Learner())
    stage.online(epoch=2)
    stage.hear(Join)
    assert [event["key"] for event in me.named("coordinator_trusted")] == [fingerprint(ours.public)]


def test_a_key_that_the_trusted_one_vouches_for_is_trusted(url: str, stage: Stage, tmp_path: Path) -> None:
    old, stage.signer = stage.signer, Signer(new_key(), "tastes")
    trust(tmp_path, old.public)
    me = Me(url, tmp_path, Learner())
    stage.online(said=[old.succession(stage.signer.public)])
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(Finished(rounds=1, cluster=0, adapters=[]))
    me.result()
    with closing(Home(tmp_path).journal()) as journal:
        assert journal.trusted_key == stage.signer.public


def test_being_told_a_former_key_again_forgets_nothing(url: str, stage: Stage, tmp_path: Path) -> None:
    """A device may be started with the same invitation every time, though the key in it was replaced meanwhile."""
    old, stage.signer = stage.signer, Signer(new_key(), "tastes")
    trust(tmp_path, old.public)
    me = Me(url, tmp_path, Learner(), rounds=1)
    stage.online(epoch=7, said=[old.succession(stage.signer.public)])
    stage.hear(Join)
    stage.say(Welcome(round=0, rounds=3))
    stage.say(start(1))
    stage.take(stage.hear(Offer))
    stage.say(start(2))
    me.result()
    trust(tmp_path, old.public)
    with closing(Home(tmp_path).journal()) as journal:
        assert (journal.trusted_key, journal.heard) == (old.public, (7, 2))
    trust(tmp_path, bytes(32))  # of a coordinator that was set up anew
    with closing(Home(tmp_path).journal()) as journal:
        assert (journal.trusted_key, journal.heard) == (bytes(32), (0, 0))
