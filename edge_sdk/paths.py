"""Paths as people write them: "~" is their home folder, where there is one."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.errors import ConfigurationError


def expanded(path: Path | str) -> Path:
    """The path, with the home folder in the place of "~".

    Raises:
        ConfigurationError: it begins with "~", and this user has no home folder: neither HOME nor an entry in the
            system's list of users says one, as for a service or in a container.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(
            f"{path} needs a home folder, and this user has none: set HOME, or give a path that does not begin with ~."
        ) from error
