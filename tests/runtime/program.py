"""A process that takes permits of an account with one slot, for the tests to hold, kill and interrupt.

    python program.py hold | wait | leave-open | fork   instance-id

Settings come from the environment and the working folder, as for any user. Each step is told in a line of output.
"""

from __future__ import annotations

import os
import sys

from cross_instance import DuplicateInstance, Runtime


def tell(line: str) -> None:
    print(line, flush=True)


def hold(runtime: Runtime) -> None:
    with runtime.permit("acme", "m-1"):
        tell("held")
        sys.stdin.read()


def wait(runtime: Runtime) -> None:
    tell("waiting")
    with runtime.permit("acme", "m-1"):
        tell("granted")


def leave_open(runtime: Runtime) -> None:
    """End without giving anything back by hand."""
    globals()["kept"] = runtime, runtime.permit("acme", "m-1").acquire()
    tell("held")


def fork(runtime: Runtime) -> None:
    """The child has the parent's objects, but is an instance of its own."""
    permit = runtime.permit("acme", "m-1").acquire()
    child = os.fork()
    if not child:
        permit.close()
        with runtime.permit("other", "m-1"):
            tell(f"child {runtime.instance_id.startswith('forked.')} {runtime.incarnation > permit.incarnation}")
        runtime.close()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    held = runtime.pi_instance_status()["activeRequests"]
    permit.close()
    tell(f"parent {status} {held} {runtime.pi_instance_status()['activeRequests']}")


def main(command: str, instance_id: str) -> None:
    runtime = Runtime(instance_id)
    try:
        runtime.join()
    except DuplicateInstance as error:
        tell(f"duplicate {error.pid}")
        return
    tell("joined")
    {"hold": hold, "wait": wait, "leave-open": leave_open, "fork": fork}[command](runtime)
    if command != "leave-open":
        runtime.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
