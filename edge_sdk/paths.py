"""Paths as people write them: "~" stands for the home folder."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.errors import ConfigurationError


def expanded(path: Path | str) -> Path:
    """The path with the home folder in place of "~".

    Raises:
        ConfigurationError: it begins with "~", and this user has no home folder: neither HOME nor the system's list of
            users names one, as for a service or in a container.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(
            f"{path} needs a home folder, and this user has none: set HOME, or give a path that does not begin with ~."
        ) from error
