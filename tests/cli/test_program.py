"""The program as a whole: exit codes, errors, help, completion, configuration commands, speed of starting."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_support import Meshnode

from meshnode.cli import base, output, root
from meshnode.client import ApiError
from meshnode.config import Config
from meshnode.errors import LocalFaultError, RefusedError, UntrustedInputError

DOCS = Path(__file__).parents[2] / "docs"


def all_commands() -> list[tuple[str, click.Command]]:
    found = []

    def walk(name: str, command: click.Command) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for child in command.list_commands(context):
                got = command.get_command(context, child)
                assert got is not None
                walk(f"{name} {child}", got)
        else:
            found.append((name, command))

    walk("meshnode", root)
    return found


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError("c", "r"), 1),
        (ApiError("store-full", "r", status=507), 4),
        (ApiError("noc-unknown", "r", status=409), 1),
        (ApiError("daemon-unreachable", "r"), 3),
        (ApiError("answer-lost", "r"), 3),
        (LocalFaultError("c", "r"), 4),
        (UntrustedInputError("c", "r"), 5),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert base.exit_code_of(error) == code


def test_a_wrong_command_line_says_what_is_wrong_and_exits_2(meshnode: Meshnode) -> None:
    for arguments in (["no-such"], ["init"], ["init", "--data"], ["authority", "init", "--out", "x"], ["run"]):
        said = meshnode(*arguments)
        assert said.code == 2, arguments
        assert said.err.startswith("error: usage: ")
        assert "  what to do: see meshnode" in said.err
    assert meshnode("no-such", "--json").error["code"] == "usage"


def test_a_mistake_of_our_own_is_not_taken_for_a_refusal(meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("meshnode.enrolment.read_enrolment", broken)
    said = meshnode("identity", "show", "--data", "x")
    assert said.code == 70
    assert "ZeroDivisionError" in said.err
    assert "error: internal-error" in said.err


def test_every_command_has_help_and_every_command_that_answers_has_json(meshnode: Meshnode) -> None:
    manual = (DOCS / "cli.md").read_text("utf-8")
    without_json = {"meshnode run", "meshnode completion", "meshnode config reference"}
    for name, command in all_commands():
        assert command.help, name
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--json" in options) is (name not in without_json), name
        assert f"`{name.removeprefix('meshnode ')}`" in manual or name not in without_json, name
        said = meshnode(*name.split()[1:], "--help")
        assert said.code == 0
        assert said.out.startswith("Usage: ")


def test_the_manual_names_every_command_and_every_exit_code() -> None:
    manual = (DOCS / "cli.md").read_text("utf-8")
    for name, _ in all_commands():
        assert f"`{name}" in manual, name
    for code, meaning in base.EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in manual


def test_the_configuration_manual_is_the_table_itself(meshnode: Meshnode) -> None:
    manual = (DOCS / "configuration.md").read_text("utf-8")
    assert meshnode("config", "reference").out.strip() in manual


def test_a_right_configuration_is_checked_and_shown_and_a_wrong_one_is_a_local_fault(
    tmp_path: Path, meshnode: Meshnode
) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[node]\ndata_dir = "d"\n[[peer]]\naddresses = ["hub:7411"]\n')
    checked = meshnode("config", "check", "--file-only", file, "--json").json
    assert (checked["ok"], checked["peers"], checked["socket"]) == (True, 1, str(tmp_path / "d" / "api.sock"))
    said = meshnode("config", "check", "--file-only", file)
    assert "1 peers" in said.out
    assert "note: only the file was looked at" in said.err
    said = meshnode("config", "check", file, "--json")
    assert (said.code, said.out, said.error["code"]) == (4, "", "data-dir-missing")
    assert "meshnode init" in said.error["action"]
    again = tmp_path / "again.toml"
    again.write_text(meshnode("config", "show", file).out)
    assert meshnode("config", "show", again, "--json").json == meshnode("config", "show", file, "--json").json
    file.write_text("[node]\nrelay = 1\n")
    said = meshnode("config", "check", file)
    assert said.code == 4
    assert re.match(r"error: config-wrong-type: .*, line 2: node.relay: ", said.err)


def test_run_takes_a_configuration_or_a_data_directory_and_not_both(
    tmp_path: Path, meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Config] = []
    monkeypatch.setattr("meshnode.daemon.run", ran.append)
    file = tmp_path / "node.toml"
    file.write_text('[node]\ndata_dir = "d"\n')
    assert meshnode("run", "--config", file).code == 0
    assert meshnode("run", "--data", tmp_path / "other").code == 0
    assert [config.node.data_dir for config in ran] == [tmp_path / "d", tmp_path / "other"]
    assert meshnode("run", "--config", file, "--data", tmp_path).code == 2
    monkeypatch.setenv("MESHNODE_CONFIG", str(file))
    assert meshnode("run").code == 0
    assert meshnode("run", "--data", tmp_path / "nearer").code == 0
    assert [config.node.data_dir for config in ran[2:]] == [tmp_path / "d", tmp_path / "nearer"]


def test_a_daemon_that_cannot_start_is_a_local_fault(tmp_path: Path, meshnode: Meshnode) -> None:
    said = meshnode("run", "--data", tmp_path / "empty")
    assert said.code == 4
    assert said.err.startswith("error: ")
    assert "  what to do: " in said.err


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(meshnode: Meshnode, shell: str) -> None:
    said = meshnode("completion", shell)
    assert said.code == 0
    assert "_MESHNODE_COMPLETE" in said.out


def run_program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "meshnode", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
    )


def test_the_real_program_completes_commands() -> None:
    found = run_program(_MESHNODE_COMPLETE="zsh_complete", COMP_WORDS="meshnode auth", COMP_CWORD="1")
    assert "authority" in found.stdout


def test_the_real_program_stops_quietly_when_its_reader_has_seen_enough(tmp_path: Path) -> None:
    command = f"{sys.executable} -m meshnode config reference | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_client_command_loads_neither_the_daemon_nor_a_heavy_library() -> None:
    script = (
        "import sys, meshnode.cli.status, meshnode.cli.incident_read, meshnode.cli.incident_write, meshnode.client\n"
        "heavy = 'trio aioquic sqlite3 cryptography zeroconf lxml nacl cbor2 httptools'.split()\n"
        "ours = ['meshnode.config', 'meshnode.daemon', 'meshnode.core.schema', 'meshnode.interchange.cap']\n"
        "print([name for name in heavy + ours if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# --- what is printed ----------------------------------------------------------------------------------------------


def test_text_from_outside_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b[2Jb\u009bc\u202ed\x07e\nf"
    output.table(["TITLE", "N"], [[evil, 1]])
    output.fields({"title": evil})
    output.error("code", evil, evil, False)
    output.warning(evil)
    output.as_json({"title": evil})
    said = capsys.readouterr()
    for character in "\x1b\u009b\u202e\x07":
        assert character not in said.out + said.err
    assert "a\\x1b[2Jb\\x9bc\\u202ed\\x07e\\x0af" in said.out


def test_json_output_reads_back_as_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    value = {"text": "Zürich Αθήνα \u009b \u202e \x1b \u2028", "n": [1, None, True, 1.5]}
    output.as_json(value)
    assert json.loads(capsys.readouterr().out) == value


def test_columns_line_up_whatever_the_alphabet(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["NAME", "N"], [["Αθήνα", 1], ["Ko\u0308ln", 22], ["東京", 333], ["x" * 100, None]])
    lines = capsys.readouterr().out.splitlines()
    assert [output._width(line) for line in lines] == [62 + 3] * 5
    assert "…" in lines[4]


def test_times_are_shown_in_utc_and_absurd_ones_as_numbers() -> None:
    assert output.time_utc(1_772_366_405_000) == "2026-03-01 12:00:05Z"
    assert output.time_utc(None) == "-"
    assert output.time_utc(2**62) == f"{2**62} ms"
