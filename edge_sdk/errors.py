"""The one tree of errors that Impasto raises on purpose.

    ImpastoError
    ├── BundleError             the exported model on disk
    │   ├── BundleMissing           no bundle in that folder
    │   └── BundleCorrupt           a file is missing, or its hash is not the one in impasto.json
    ├── DeviceError             the device lacks what was asked for
    │   ├── BackendUnavailable      a back end is missing, does not start, or leaves its work to another
    │   ├── NoRoomToPrepare         the disk is too full to prepare the bundle for this processor
    │   ├── PreparedElsewhere       a prepared graph that was copied from another processor
    │   ├── MemoryLimitTooSmall     a stage, or a training, does not fit into the memory limit
    │   ├── OutOfMemory             the system did not give the memory that drawing or training asked for
    │   └── DeviceBusy              others on this device hold what is needed, and did not finish in time
    ├── ExportError             a model cannot be exported
    │   ├── VerificationFailed      the export does not compute what torch computes
    │   └── CalibrationError        the prompts that int8 is calibrated with cannot be used
    ├── AdapterError            LoRA factors
    │   ├── AdapterFormatError      not a LoRA safetensors file
    │   ├── AdapterMismatch         of another base model, or shapes that fit no slot
    │   └── AdapterValueError       NaN, infinite or absurdly large numbers
    ├── PictureError            the owner's pictures
    │   ├── NoPictures              an empty folder
    │   └── PictureUnreadable       a file that cannot be decoded
    ├── OutputError             a result cannot be written where it was to go
    ├── PromptError             a prompt that cannot be used as it is
    ├── DrawingError            a picture cannot be drawn as asked
    │   ├── SizeUnsupported         sides that the base model cannot have
    │   ├── HybridUnsupported       a hybrid of adapters that it cannot combine
    │   ├── StateInvalid            a drawing's state that cannot be: bytes, NaN, range, shape
    │   └── StateMismatch           a state of another base model, precision, schedule or number of steps
    ├── TrainingError           fine-tuning cannot start or go on
    │   └── CheckpointError         a checkpoint from which training cannot go on
    │       └── CheckpointForeign       an undamaged one, of another training
    ├── WireError               a message that breaks the protocol
    │   ├── MessageInvalid          cannot be decoded, or has a value that is not allowed
    │   ├── TransferError           a transfer whose chunks do not add up to its manifest
    │   │   └── BlobLost                the coordinator's store has lost a blob, or holds it damaged
    │   ├── SignatureInvalid        not signed by the coordinator that this device trusts
    │   └── MessageOutdated         signed by that coordinator, but older than a step that it has sent since
    ├── TransportError          the network
    │   ├── BrokerSettingsInvalid   a broker's URL or settings make no sense, or would have no effect
    │   ├── BrokerUnreachable       no connection within the deadline
    │   ├── AccessDenied            the broker's rules do not allow it
    │   ├── PayloadTooLarge         larger than the broker accepts
    │   ├── DeadlineExceeded        an answer did not come in time
    │   └── LineBroken              the thread that serves a membership's transfers has died of an unexpected error
    ├── ConfigurationError      a federation file, a home or a setting that cannot be used
    └── FederationError         the federation as a whole
        ├── UnknownFederation       nobody coordinates a federation of that name here
        ├── Superseded              another coordinator of the federation has taken over
        ├── HomeInUse               another coordinator, or another federation, uses the home
        ├── StoreUnavailable        the coordinator's database or blob store cannot be written or read just now
        ├── Rejected                the coordinator refused the device, with its reason
        ├── PrivacyRefused          the federation asks for more than the device's owner allows to leave
        │   └── PrivacyBudgetSpent      another answer would tell more than the owner's epsilon allows in all
        ├── NothingLearnt           no update of a round can be used
        ├── CoordinatorUntrusted    the coordinator shows another key than the one that this device trusts
        ├── AssistError             a helper does not draw for this device; the device draws alone
        │   ├── NoHelper                no helper of the federation fits the drawing
        │   ├── AssistDeclined          the helper would save too little time
        │   ├── HelperUntrusted         the coordinator does not vouch for the helper's key
        │   ├── HelperBusy              the helper has no room
        │   ├── HelperRefused           the helper refused the request, with its reason
        │   ├── RequestInvalid          a request that the helper cannot carry out
        │   ├── RequestExpired          a request whose deadline has passed, is too far away, or that was answered
        │   ├── AdapterUnknown          the helper does not have an adapter of the request
        │   └── QuotaExceeded           the device has asked for more than it may
        ├── MaskedSumError          a masked sum cannot be made, or a device does not take part in it
        │   ├── AttemptMismatch         a message of another start, round or attempt, or out of its turn
        │   ├── RosterInvalid           a roster that cannot be right: forged, twice the same, too sparse
        │   ├── RevealMissing           a device has not revealed its part of the graph's seed
        │   ├── TooFewDevices           fewer devices than the sum asks for are there, or are left
        │   ├── ShareInvalid            shares that cannot be decrypted, or do not give their secret
        │   ├── UnmaskRefused           an unmask request that could show single updates
        │   └── MasksLeft               masks are left in a sum
        ├── MembershipStopped       the owner has stopped a membership in the middle of a training
        └── JournalError            a device's journal of its membership cannot be written or read
            ├── JournalDamaged          the file is damaged, or is no journal
            └── JournalTooNew           written by a later version

Every message says what is wrong and what to do next. A program that catches `ImpastoError` catches them all.
"""

from __future__ import annotations

from edge_sdk.streams import printable


class ImpastoError(Exception):
    """Base of all errors that Impasto raises on purpose."""


class BundleError(ImpastoError):
    """The exported model on disk cannot be used."""


class BundleMissing(BundleError):
    """There is no bundle in the folder."""


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, or its hash is not the one that impasto.json states."""


class DeviceError(ImpastoError):
    """The device lacks what was asked for: a back end, disk, memory, or a resource that is in use."""


class BackendUnavailable(DeviceError):
    """The back end is missing, does not start, or leaves its work to another one."""


class NoRoomToPrepare(DeviceError):
    """The disk is too full to prepare the bundle for this processor."""


class PreparedElsewhere(DeviceError):
    """The prepared graph was made by another processor."""


class OutOfMemory(DeviceError):
    """The system did not give the memory that drawing or training asked for."""


class MemoryLimitTooSmall(DeviceError):
    """A stage does not fit into the memory limit, even alone; or no way to train does."""


class DeviceBusy(DeviceError):
    """Others on this device hold what is needed, and did not finish in time."""


class ExportError(ImpastoError):
    """A model cannot be exported."""


class VerificationFailed(ExportError):
    """The exported graph does not compute what torch computes."""


class CalibrationError(ExportError):
    """The prompts that an int8 bundle is calibrated with cannot be used."""


class AdapterError(ImpastoError):
    """An adapter cannot be used."""


class AdapterFormatError(AdapterError):
    """The file or message is not a LoRA adapter in safetensors form."""


class AdapterMismatch(AdapterError):
    """The adapter belongs to another base model, or its shapes fit no slot."""


class AdapterValueError(AdapterError):
    """The adapter holds NaN, infinite or absurdly large numbers."""


class PictureError(ImpastoError):
    """The owner's pictures cannot be used."""


class NoPictures(PictureError):
    """The folder holds no picture with a caption."""


class PictureUnreadable(PictureError):
    """A picture file cannot be decoded."""


class OutputError(ImpastoError):
    """A result cannot be written where it was to go."""


class PromptError(ImpastoError):
    """The prompt cannot be used as it is."""


class DrawingError(ImpastoError):
    """A picture cannot be drawn as asked."""


class SizeUnsupported(DrawingError):
    """The base model cannot draw pictures with such sides."""


class HybridUnsupported(DrawingError):
    """The hybrid cannot combine these adapters."""


class StateInvalid(DrawingError):
    """A drawing's state is damaged, or holds what no drawing gives."""


class StateMismatch(DrawingError):
    """A drawing's state is of another base model, precision, noise schedule, scheduler or number of steps."""


class TrainingError(ImpastoError):
    """Fine-tuning cannot start or go on."""


class CheckpointError(TrainingError):
    """A checkpoint is damaged or belongs to another training."""


class CheckpointForeign(CheckpointError):
    """A checkpoint is of a training of other pictures, settings or adapters."""


class WireError(ImpastoError):
    """A message breaks the protocol."""


class MessageInvalid(WireError):
    """A message cannot be decoded, or has a value that is not allowed."""


class TransferError(WireError):
    """The chunks of a transfer do not add up to its manifest."""


class BlobLost(TransferError):
    """A blob is missing from the coordinator's store, or is damaged there.

    sha256: the blob's name, 64 hex digits.
    """

    def __init__(self, message: str, sha256: str) -> None:
        super().__init__(message)
        self.sha256 = sha256


class SignatureInvalid(WireError):
    """A step or state is not signed by the coordinator that this device trusts, or not for this device."""


class MessageOutdated(WireError):
    """A signed step or state is older than one that the coordinator has sent since: it was replayed, or comes late."""


class TransportError(ImpastoError):
    """A request to the network or the broker failed."""


class BrokerSettingsInvalid(TransportError):
    """The broker's URL or settings make no sense, contradict each other, or would have no effect."""


class BrokerUnreachable(TransportError):
    """No connection to the broker within the deadline."""


class AccessDenied(TransportError):
    """The broker's rules do not allow this user to publish on a topic or to subscribe to it."""


class PayloadTooLarge(TransportError):
    """The payload is larger than the broker accepts."""


class DeadlineExceeded(TransportError):
    """An answer did not come in time."""


class LineBroken(TransportError):
    """The thread that serves a membership's transfers has died of an unexpected error, which is this one's cause."""


class ConfigurationError(ImpastoError):
    """A federation file, a home folder or a setting cannot be used."""


class FederationError(ImpastoError):
    """The federation as a whole cannot go on."""


class UnknownFederation(FederationError):
    """Nobody coordinates a federation of that name on this broker."""


class Superseded(FederationError):
    """Another coordinator of the federation has taken over."""


class HomeInUse(FederationError):
    """Another coordinator has this home open and keeps it, or it is the home of another federation."""


class StoreUnavailable(FederationError):
    """The coordinator's database or blob store cannot be written or read just now, for instance on a full disk."""


class Rejected(FederationError):
    """The coordinator refused the device; the message carries its reason."""


class PrivacyRefused(FederationError):
    """The federation asks for more than the device's owner allows to leave: a privacy level, or an update by itself."""


class PrivacyBudgetSpent(PrivacyRefused):
    """Another answer with noise would tell more of this device than its owner's epsilon allows in all."""


class NothingLearnt(FederationError):
    """No update of a round can be used."""


class CoordinatorUntrusted(FederationError):
    """The coordinator shows another key than the one that this device trusts."""


class AssistError(FederationError):
    """A helper does not draw the first steps for this device."""


class NoHelper(AssistError):
    """No helper of the federation is there that fits the drawing."""


class AssistDeclined(AssistError):
    """The helper would save too little time, or the drawing cannot be shared."""


class HelperUntrusted(AssistError):
    """The coordinator that this device trusts does not vouch for the helper."""


class HelperBusy(AssistError):
    """The helper has no room for another request."""


class HelperRefused(AssistError):
    """The helper refused the request; the message carries its reason."""


class RequestInvalid(AssistError):
    """The helper cannot carry the request out: form, size, scheduler, steps."""


class RequestExpired(AssistError):
    """The deadline of the request has passed or is too far away, or its answer was given and is gone."""


class AdapterUnknown(AssistError):
    """The helper does not have an adapter that the request names."""


class QuotaExceeded(AssistError):
    """The device has asked for more than it may."""


class MaskedSumError(FederationError):
    """A masked sum cannot be made, or a device does not take part in it."""


class AttemptMismatch(MaskedSumError):
    """A message is of another start, round or attempt, or comes out of its turn."""


class RosterInvalid(MaskedSumError):
    """A roster, or the numbers revealed for it, cannot be right."""


class RevealMissing(MaskedSumError):
    """A device of the roster has not revealed its part of the graph's seed, so that there is no graph."""


class TooFewDevices(MaskedSumError):
    """Fewer devices than the sum asks for are there, or are left."""


class ShareInvalid(MaskedSumError):
    """Shares cannot be decrypted, or do not give the secret that they are of."""


class UnmaskRefused(MaskedSumError):
    """An unmask request could show single updates."""


class MasksLeft(MaskedSumError):
    """Masks, or values beyond all bounds, are left in a sum."""


class MembershipStopped(FederationError):
    """The owner has stopped a membership in the middle of a training. `Membership.run` takes it for a clean end."""


class JournalError(FederationError):
    """A device's journal of its membership cannot be written or read."""


class JournalDamaged(JournalError):
    """The journal is damaged, or is no journal of a device."""


class JournalTooNew(JournalError):
    """The journal was written by a later version."""


def describe(error: BaseException) -> str:
    """An error's message on one line for people: file first, no error number, no control characters."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return printable(" ".join(said.split()))
