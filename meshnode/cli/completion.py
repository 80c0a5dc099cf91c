"""``meshnode completion SHELL``: the script that makes the shell complete commands and options."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script: eval "$(meshnode completion bash)"."""
    from click.shell_completion import get_completion_class

    from meshnode.cli import root

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(root, {}, "meshnode", "_MESHNODE_COMPLETE").source())
