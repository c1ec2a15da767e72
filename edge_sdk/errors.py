"""The one tree of errors that Impasto raises on purpose.

    ImpastoError
    ├── BundleError             the exported model on disk
    │   ├── BundleMissing           no bundle in that folder
    │   └── BundleCorrupt           a file is missing, or its hash is not the one in impasto.json
    ├── DeviceError             what this device has is not enough, or not what was asked for
    │   ├── BackendUnavailable      a back end is missing, does not start, or leaves its work to another
    │   ├── NoRoomToPrepare         the disk is too full to prepare the bundle for this processor
    │   ├── PreparedElsewhere       a prepared graph that was copied from another processor
    │   ├── MemoryLimitTooSmall     no stage, or not the one that is needed, fits into the memory limit
    │   ├── OutOfMemory             the system did not give the memory that drawing or training asked for
    │   └── DeviceBusy              others on this device have what is needed, and did not finish in time
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
    │   └── HybridUnsupported       a hybrid of adapters that it cannot combine
    ├── TrainingError           fine-tuning cannot start or go on
    │   └── CheckpointError         a checkpoint that cannot be gone on from
    │       └── CheckpointForeign       a sound one, of another training
    ├── WireError               a message that breaks the protocol
    │   ├── MessageInvalid          cannot be decoded, or says what it must not
    │   ├── TransferError           a transfer whose chunks do not add up to its manifest
    │   │   └── BlobLost                the coordinator has not got any more what is to be transferred
    │   ├── SignatureInvalid        said by somebody else than the coordinator that is known
    │   └── MessageOutdated         said by that coordinator, but older than what it has said since
    ├── TransportError          the network
    │   ├── BrokerSettingsInvalid   a broker's URL, or what is said beside it, makes no sense or would have no effect
    │   ├── BrokerUnreachable       no connection within the deadline
    │   ├── AccessDenied            the broker's rules do not allow it
    │   ├── PayloadTooLarge         larger than the broker accepts
    │   ├── DeadlineExceeded        an answer did not come in time
    │   └── LineBroken              what serves a membership's transfers has ended on an error that nobody expected
    └── FederationError         the federation as a whole
        ├── UnknownFederation       nobody coordinates a federation of that name here
        ├── Superseded              another coordinator of the federation has taken over
        ├── HomeInUse               another coordinator, or another federation, has the home
        ├── StoreUnavailable        the coordinator's database or blob store cannot be written or read just now
        ├── Rejected                the coordinator refused the device, with its reason
        ├── CoordinatorUntrusted    the coordinator shows another key than the one that this device trusts
        ├── ConfigurationError      a federation file that makes no sense
        └── JournalError            what a device notes of its membership cannot be written or read
            ├── JournalDamaged          the file is damaged, or is none of ours
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
    """What this device has is not enough, or not what was asked for."""


class BackendUnavailable(DeviceError):
    """The back end is missing, does not start, or leaves its work to another one."""


class NoRoomToPrepare(DeviceError):
    """The disk is too full to prepare the bundle for this processor."""


class PreparedElsewhere(DeviceError):
    """The prepared graph was made by another processor."""


class OutOfMemory(DeviceError):
    """The system did not give the memory that drawing or training asked for."""


class MemoryLimitTooSmall(DeviceError):
    """What is to be run does not fit into the memory limit, even alone."""


class DeviceBusy(DeviceError):
    """Others on this device have what is needed, and did not finish in time."""


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


class TrainingError(ImpastoError):
    """Fine-tuning cannot start or go on."""


class CheckpointError(TrainingError):
    """A checkpoint is damaged or belongs to another training."""


class CheckpointForeign(CheckpointError):
    """A checkpoint is of a training of other pictures, settings or adapters."""


class WireError(ImpastoError):
    """A message breaks the protocol."""


class MessageInvalid(WireError):
    """A message cannot be decoded, or says what it must not."""


class TransferError(WireError):
    """The chunks of a transfer do not add up to its manifest."""


class BlobLost(TransferError):
    """A blob is missing from the coordinator's store, or is damaged there.

    sha256: its name.
    """

    def __init__(self, message: str, sha256: str) -> None:
        super().__init__(message)
        self.sha256 = sha256


class SignatureInvalid(WireError):
    """What only the coordinator may say is not signed by the one that is known, or not for this device."""


class MessageOutdated(WireError):
    """The coordinator has signed it, but has said something newer since: somebody repeats it, or it comes late."""


class TransportError(ImpastoError):
    """The network did not do what was asked."""


class BrokerSettingsInvalid(TransportError):
    """The broker's URL, or what is said beside it, makes no sense, or would have no effect."""


class BrokerUnreachable(TransportError):
    """No connection to the broker within the deadline."""


class AccessDenied(TransportError):
    """The broker's rules do not allow this user to publish or to listen there."""


class PayloadTooLarge(TransportError):
    """The payload is larger than the broker accepts."""


class DeadlineExceeded(TransportError):
    """An answer did not come in time."""


class LineBroken(TransportError):
    """What serves a membership's transfers has ended on an error that nobody expected, which is the cause of this."""


class FederationError(ImpastoError):
    """The federation as a whole cannot go on."""


class UnknownFederation(FederationError):
    """Nobody coordinates a federation of that name on this broker."""


class Superseded(FederationError):
    """Another coordinator of the federation has taken over."""


class HomeInUse(FederationError):
    """Another coordinator has this home open and does not give way, or it is the home of another federation."""


class StoreUnavailable(FederationError):
    """The coordinator's database or blob store cannot be written or read just now: the disk is full, say."""


class Rejected(FederationError):
    """The coordinator refused the device; the message carries its reason."""


class NothingLearnt(FederationError):
    """No update of a round can be used."""


class CoordinatorUntrusted(FederationError):
    """The coordinator shows another key than the one that this device trusts."""


class ConfigurationError(FederationError):
    """A federation file makes no sense."""


class JournalError(FederationError):
    """What a device notes of its membership cannot be written or read."""


class JournalDamaged(JournalError):
    """The journal is damaged, or is no journal of a device."""


class JournalTooNew(JournalError):
    """The journal was written by a later version."""


def describe(error: BaseException) -> str:
    """What an error says, in one line for a person: file first, and no error number; nothing that drives a terminal."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return printable(" ".join(said.split()))
