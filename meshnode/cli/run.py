"""``meshnode run``: the daemon in the foreground. Exits 0 when asked to stop, 4 when this machine is at fault."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource


@click.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(readable=False, path_type=Path),
    envvar="MESHNODE_CONFIG",
    metavar="FILE",
    help="Configuration file; MESHNODE_CONFIG in the environment.",
)
@click.option(
    "--data",
    "data_dir",
    type=click.Path(readable=False, path_type=Path),
    metavar="DIR",
    help="Data directory, with all defaults.",
)
def run(config_file: Path | None, data_dir: Path | None) -> None:
    """Run the node until it is stopped (SIGTERM or SIGINT)."""
    from meshnode.config import for_data_dir, load

    source = click.get_current_context().get_parameter_source("config_file")
    if data_dir is not None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("give either --config FILE or --data DIR")
    if data_dir is not None:
        config = for_data_dir(data_dir.absolute())
    elif config_file is not None:
        config = load(config_file)
    else:
        raise click.UsageError("give --config FILE or --data DIR")

    from meshnode.daemon import run as run_daemon

    run_daemon(config)
