"""How commands end when Ctrl-C comes at a bad moment."""

import click
from click.testing import CliRunner
from interlock_server.cli.main import main


def test_a_lock_that_complains_of_ctrl_c_is_ctrl_c() -> None:
    @main.command("wait-for-a-lock")
    def wait() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("cannot release un-acquired lock")  # noqa: B904 - as threading does

    ended = CliRunner().invoke(main, ["wait-for-a-lock"])
    assert (ended.exit_code, ended.output) == (130, "")


def test_a_command_that_ends_by_itself_after_ctrl_c_keeps_its_exit_code() -> None:
    @main.command("end-in-order")
    @click.pass_context
    def end(ctx: click.Context) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            ctx.exit(3)

    assert CliRunner().invoke(main, ["end-in-order"]).exit_code == 3
