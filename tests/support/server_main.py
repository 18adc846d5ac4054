"""The `interlock` command, in a process that does not outlive its owner.

Run as a module, with the command's own arguments. Its standard input is a pipe from its owner: it
ends when the owner does, also by `kill -9`, and so does this process, at once. Until then the owner
may name failpoints there, a line each time, to be armed.

Not the kernel's parent-death signal: that comes when the *thread* that started the process ends.
"""

import os
import signal
import threading

from interlock_server.storage import failpoints

ARMED = "armed: "
"""What the process says when it has armed failpoints, before their names."""


def end_with_owner() -> None:
    """End this process when its standard input ends. Blocks: for a thread of its own."""
    with os.fdopen(0, closefd=False) as owner:
        for line in owner:
            failpoints.arm(line.strip())
            print(ARMED + line.strip(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from interlock_server.cli.main import main

    threading.Thread(target=end_with_owner, name="owner", daemon=True).start()
    main(prog_name="interlock")
