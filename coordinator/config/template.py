"""The federation file that `impasto-coordinator init` writes: template.toml, beside this module."""

from __future__ import annotations

import json
import re
import unicodedata
from importlib.resources import files

from edge_sdk.errors import ConfigurationError
from edge_sdk.wire import NAME


def template(name: str, bundle: str, broker: str) -> str:
    """Return a commented federation file to start from.

    Args:
        name: name of the federation.
        bundle: folder of the base model's bundle.
        broker: URL of the broker.
    """
    text = (files(__package__) / "template.toml").read_text("utf-8")
    values = {"NAME": name, "BUNDLE": bundle, "BROKER": broker}
    return re.sub(r'"(NAME|BUNDLE|BROKER)([^"]*)"', lambda found: _quoted(values[found[1]] + found[2]), text)


def name_from(stem: str) -> str:
    """Return the federation's name for a file: letters without their accents, other characters as '-'.

    Raises:
        ConfigurationError: no character is left.
    """
    plain = unicodedata.normalize("NFKD", stem.replace("ß", "ss")).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("._-")[:64]
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"No federation's name can be made of {stem!r}: give the file a name with letters a to z or digits in it."
        )
    return name


def _quoted(text: str) -> str:
    """Return a TOML string. JSON strings are valid TOML except for surrogate pairs and DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
