"""Drawing with ONNX Runtime: numpy, onnxruntime and tokenizers only, never torch.

bundle/         the base model on disk
runtime/        ONNX Runtime and other back ends that run its graphs
adapters/       adapters as inputs of the UNet, and hybrids of several
sampling/       prompts, schedulers, the denoiser
picture_encoder.py  pictures -> embeddings, for picture codes
drawing.py      an order -> the states of its drawing, step by step
joint.py        several drawings, whose steps the UNet computes together
generator.py    all of it: prompt -> pictures

Each imports only those above it.
"""

from __future__ import annotations

from edge_sdk.inference.adapters import HYBRIDS, Mix
from edge_sdk.inference.bundle import BASIS, Bundle, BundleIndex, Slot, compute_base_id
from edge_sdk.inference.drawing import Order
from edge_sdk.inference.generator import Decoder, Generator, OnStep
from edge_sdk.inference.joint import Joint, JointDrawing
from edge_sdk.inference.runtime import BACKENDS, NotPrepared
from edge_sdk.inference.sampling import (
    MAX_STATE,
    SCHEDULERS,
    Course,
    DrawingState,
    PromptTruncated,
    PromptWords,
    SolverState,
    read_state,
)

__all__ = [
    "BACKENDS",
    "BASIS",
    "HYBRIDS",
    "MAX_STATE",
    "SCHEDULERS",
    "Bundle",
    "BundleIndex",
    "Course",
    "Decoder",
    "DrawingState",
    "Generator",
    "Joint",
    "JointDrawing",
    "Mix",
    "NotPrepared",
    "OnStep",
    "Order",
    "PromptTruncated",
    "PromptWords",
    "Slot",
    "SolverState",
    "compute_base_id",
    "read_state",
]
