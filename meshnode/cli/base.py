"""What every command shares: loading on demand, the options of clients, and errors as two lines and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from meshnode.cli import output
from meshnode.errors import LocalFaultError, MeshnodeError, RefusedError, UntrustedInputError

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_LOCAL_FAULT = 4
EXIT_BAD_INPUT = 5
EXIT_BUG = 70
"""``EX_SOFTWARE`` of sysexits.h: a mistake of this program, with a traceback."""
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

EXIT_CODES = {
    0: "done",
    EXIT_REFUSED: "refused, by the daemon or by an authority; nothing changed",
    EXIT_USAGE: "the command line is wrong",
    EXIT_UNREACHABLE: "the daemon gave no answer; the reason says whether something may have changed",
    EXIT_LOCAL_FAULT: "this machine is at fault: configuration, key, file, disk, address in use",
    EXIT_BAD_INPUT: "a file that was handed in is bad: a CAP alert, a request, a certificate",
    EXIT_BUG: "a mistake in this program; please report the traceback",
    EXIT_INTERRUPTED: "interrupted from the keyboard",
}

F = TypeVar("F", bound=Callable[..., Any])


NO_ANSWER_CODES = ("daemon-unreachable", "daemon-timeout", "answer-lost", "answer-not-understood")
"""Of the client: nobody answered, or not in a way that tells whether anything was done."""
STORE_CODES = "store-"
"""How codes begin that the daemon says of its disk: it is this machine's fault, whoever noticed."""


def exit_code_of(error: MeshnodeError) -> int:
    """The exit code of each kind of error; the table is in docs/cli.md."""
    match error:
        case RefusedError():
            return EXIT_REFUSED
        case UntrustedInputError():
            return EXIT_BAD_INPUT
        case LocalFaultError():
            return EXIT_LOCAL_FAULT
        case _:  # an ApiError of meshnode.client, which is not imported for its name's sake
            if error.code.startswith(STORE_CODES):
                return EXIT_LOCAL_FAULT
            return EXIT_UNREACHABLE if error.code in NO_ANSWER_CODES else EXIT_REFUSED


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed: ``modules`` maps a name to (module, attribute).

    As the outermost group it also ends the program: every way out of a command passes :meth:`main`.
    """

    def __init__(
        self,
        name: str,
        *,
        help: str,
        modules: dict[str, tuple[str, str]],
        version: bool = False,
    ) -> None:
        params = [_version_option()] if version else []
        super().__init__(name, help=help, params=params, no_args_is_help=True)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return None
        module, attribute = self._modules[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            # What was printed may still be in a buffer; a closed pipe shows up only now.
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read us (head, less) has seen enough. Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in arguments
        try:
            code = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        except click.UsageError as error:
            _end_usage(error, as_json)
        except MeshnodeError as error:
            output.error(error.code, error.reason, error.action, as_json, path=getattr(error, "path", ""))
            sys.exit(exit_code_of(error))
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        except Exception:  # noqa: BLE001 - the outermost edge: a bug must not look like a refusal (exit code 1)
            import traceback

            traceback.print_exc()
            output.error("internal-error", "meshnode made a mistake", "report the lines above", as_json)
            sys.exit(EXIT_BUG)
        sys.exit(code if isinstance(code, int) else 0)


def _end_usage(error: click.UsageError, as_json: bool) -> NoReturn:
    path = error.ctx.command_path if error.ctx else "meshnode"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
    else:
        output.error("usage", error.format_message(), f"see {path} --help", as_json)
    sys.exit(EXIT_USAGE)


def _version_option() -> click.Option:
    def show(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
        if wanted:
            from meshnode import __version__

            click.echo(f"meshnode {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show the version."
    )


def json_option(command: F) -> F:
    """``--json``: one JSON value on standard output; errors as one JSON object on standard error."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, errors included.")(command)
