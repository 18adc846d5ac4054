"""Which task may be submitted when: the scheduler's choice, without any I/O or clock.

A task may be submitted once every parent is through. Where the source says when it was submitted,
it is not submitted earlier than that, counted from the beginning of the replay and scaled. Tasks
that never ran are through as soon as their parents are: nobody waits for them.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence

from interlock_server.replay.trace import TraceTask


class Schedule:
    """The tasks that are still to be submitted. Times are seconds since the replay began."""

    def __init__(self, tasks: Sequence[TraceTask], time_scale: float) -> None:
        """Begin; `time_scale`: seconds of the replay for each second of the trace."""
        self._tasks = {task.id: task for task in tasks}
        self._order = {task.id: position for position, task in enumerate(tasks)}
        self._time_scale = time_scale
        self._waits_for = {task.id: len(task.parents) for task in tasks}
        self._children: dict[str, list[str]] = {task.id: [] for task in tasks}
        for task in tasks:
            for parent in task.parents:
                self._children[parent].append(task.id)
        self._ready: list[tuple[float, int, str]] = []
        """A heap, by time and then in the trace's order."""
        self._unended = sum(1 for task in tasks if task.attempts)
        self._release(task.id for task in tasks if not task.parents)

    @property
    def is_over(self) -> bool:
        """Whether every task that ever ran is through."""
        return self._unended == 0

    def take_due(self, now: float) -> list[TraceTask]:
        """Answer the tasks to submit now, each once."""
        due = []
        while self._ready and self._ready[0][0] <= now:
            due.append(self._tasks[heapq.heappop(self._ready)[2]])
        return due

    def seconds_to_next(self, now: float) -> float | None:
        """Answer how long until a task is due by its time; None: the next waits for another."""
        return max(0.0, self._ready[0][0] - now) if self._ready else None

    def end(self, task_id: str) -> None:
        """A task is through: what waited for it alone may go on."""
        self._unended -= 1
        self._release(self._freed_by(task_id))

    def _release(self, task_ids: Iterable[str]) -> None:
        free = deque(task_ids)
        while free:
            task = self._tasks[free.popleft()]
            if task.attempts:
                due = (task.attempts[0].submitted or 0.0) * self._time_scale
                heapq.heappush(self._ready, (due, self._order[task.id], task.id))
            else:
                free.extend(self._freed_by(task.id))

    def _freed_by(self, task_id: str) -> list[str]:
        """Answer the children that waited for this parent alone."""
        for child in self._children[task_id]:
            self._waits_for[child] -= 1
        return [child for child in self._children[task_id] if self._waits_for[child] == 0]
