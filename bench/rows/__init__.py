"""The rows of the target table, in its order, and what explains them."""

from bench.rows import (
    anatomy,
    contention,
    goodput,
    permit,
    recovery,
    startup,
    task_sharing,
    task_storm,
    tasks,
    waiters,
    wake,
)

ROWS = (
    *(permit.ROW, anatomy.ROW, contention.ROW, waiters.ROW, wake.ROW, goodput.ROW, recovery.ROW, startup.ROW),
    *(tasks.ROW, task_sharing.ROW, task_storm.ROW),
)
