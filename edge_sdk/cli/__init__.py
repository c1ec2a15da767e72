"""`impasto`, the device on the command line. Each command is a module, and imports what it needs when it runs.

Exit codes: docs/exit-codes.md.
"""

from __future__ import annotations

import sys

import typer

from edge_sdk.cli.bench import bench
from edge_sdk.cli.doctor import doctor
from edge_sdk.cli.forget import forget
from edge_sdk.cli.generate import generate
from edge_sdk.cli.info import info
from edge_sdk.cli.join import join
from edge_sdk.cli.prepare import prepare
from edge_sdk.cli.terminal import print_error
from edge_sdk.cli.train import train
from edge_sdk.errors import ImpastoError, OutOfMemory
from edge_sdk.exits import exit_by_fault, exit_code
from edge_sdk.streams import take_any_text

__all__ = ["app", "main"]

app = typer.Typer(
    name="impasto",
    help=(
        "Draw on this device, learn from your own pictures, and share only adapters.\n\n"
        "A first picture:  impasto generate 'a fox' --bundle bundle/\n\n"
        "Your own style:  impasto train my_pictures/ --model model/ --out mine.safetensors\n\n"
        "Draw with it:  impasto generate 'a fox' --bundle bundle/ --adapter mine.safetensors\n\n"
        "A bundle is made of a diffusers folder by impasto-export."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (generate, train, join, forget, info, prepare, doctor, bench):
    app.command()(_command)


def main() -> None:
    """The console script."""
    take_any_text()
    try:
        app()
    except (ImpastoError, OSError) as error:
        print_error(error)
        sys.exit(exit_code(error))
    except MemoryError as error:  # raised by numpy, for instance for latents of a huge size
        print_error(OutOfMemory("There is not enough memory for this: ask for less at once."))
        sys.exit(exit_code(error))
    except Exception as error:
        exit_by_fault(error)
