"""The `interlock` command, in a process that does not outlive its owner.

Run as a module, with the command's own arguments. Its standard input is a pipe that nobody writes
to: it ends when the owner does, also by `kill -9`, and so does this process, at once.

Not the kernel's parent-death signal: that comes when the *thread* that started the process ends.
"""

import os
import signal
import threading

from interlock_server.cli.main import main


def end_with_owner() -> None:
    """End this process when its standard input ends. Blocks: for a thread of its own."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_owner, name="owner", daemon=True).start()
    main(prog_name="interlock")
