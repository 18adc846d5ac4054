"""`interlock logs delete`, as an operator types it."""

from interlock import Client
from interlock.ids import uuid7

from tests.end_to_end.commands import interlock
from tests.support.servers import ServerProcess


def test_a_log_is_deleted_once_the_question_is_answered(
    interlock_on_sqlite_file: ServerProcess,
) -> None:
    target = interlock_on_sqlite_file.target
    words = ("logs", "delete")
    with Client(target) as client:
        run = client.create_flow_run(client.create_flow(f"etl-{uuid7()}"))
        client.write_logs(run, ["one", "two"])

        asked = interlock(*words, run.id, "--server", target)
        assert asked.returncode == 2
        assert f"Delete the log of {run.id}?" in asked.stderr
        young = interlock(*words, run.id, "--before", "1h", "-y", "--server", target)
        assert young.stdout.startswith("Deleted: 0 records."), young.stderr
        assert [record.message for record in client.list_logs(run)] == ["one", "two"]

        done = interlock(*words, run.id, "-y", "--server", target)
        assert done.stdout == (
            f"Deleted: 2 records. The log of {run.id} begins at ordinal 2 now.\n"
        ), done.stderr
        assert list(client.list_logs(run)) == []

        unclear = interlock(*words, run.id, "--before", "yesterday", "-y", "--server", target)
        assert (unclear.returncode, "is no time" in unclear.stderr) == (2, True)
        nobody = interlock(*words, uuid7(), "--server", target)
        assert (nobody.returncode, "There is no run" in nobody.stderr) == (1, True)
