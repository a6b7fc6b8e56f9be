"""Starts parts (`runtime_parts`, `task_parts`) as processes of their own, cheaply: all is imported once, then it forks.

Standard input is a Unix socket. A request is JSON: a part with its arguments, and with it three descriptors that become
the part's standard input, output and error; the answer is its pid. Or it is a pid: the answer is its exit code, once it
has ended. Or a negative pid: the answer comes once that process is stopped. A part ends as a program does, with exit
handlers and all.
"""

from __future__ import annotations

import json
import os
import socket

from tests.processes import runtime_parts, task_parts


def main() -> None:
    with socket.socket(fileno=0) as requests:
        while True:
            text, descriptors, _, _ = socket.recv_fds(requests, 65_536, 3)
            if not text:
                return
            request = json.loads(text)
            if isinstance(request, int):
                status = os.waitpid(abs(request), os.WUNTRACED if request < 0 else 0)[1]
                answer = 0 if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
            else:
                answer = os.fork()
                if not answer:
                    break
            for descriptor in descriptors:
                os.close(descriptor)
            requests.sendall(b"%d\n" % answer)
    for place, descriptor in enumerate(descriptors):
        os.dup2(descriptor, place)
        os.close(descriptor)
    module = task_parts if hasattr(task_parts, request["part"]) else runtime_parts
    getattr(module, request["part"])(**request["arguments"])


if __name__ == "__main__":
    main()
