"""Pictures and captions as the UNet reads them.

encoders.py  the autoencoder and the text encoder, in memory only while they encode
kept.py      encodings on disk
"""

from __future__ import annotations

from edge_sdk.training.encoding.encoders import Captioned, Encoded, Pictures, encode, gather, image_size
from edge_sdk.training.encoding.kept import KeptEncodings

__all__ = ["Captioned", "Encoded", "KeptEncodings", "Pictures", "encode", "gather", "image_size"]
