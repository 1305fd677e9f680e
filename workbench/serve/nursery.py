"""A process that has imported everything and loaded the models, and forks a kernel when asked.

What a visitor would wait for is done once, and the kernels share its memory until they write to it.
One line of JSON comes in for each kernel, `cmd`, `env` and `cwd`; its process id goes back. The end
of the channel ends this process, and the kernels follow it.

It stays single-threaded (one OpenMP thread, no backward pass, no progress bars), because the other
threads of a process do not survive a fork.
"""

import gc
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

log = logging.getLogger(__name__)
READY = 0  # goes back once, as if it were a process id, when all models are loaded


def main() -> None:
    """Warm up while nobody asks, and answer whoever does."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a kernel's status
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then hangs up
    _import()
    waiting = _models()
    requests = channel.makefile("rb", buffering=0)
    while True:
        asked, _, _ = select.select([channel], [], [], 0 if waiting else None)
        if not asked:
            _warm(waiting.pop(0))
            if not waiting:
                _answer(channel, READY)
            continue
        line = requests.readline()
        if not line:
            return
        pid = os.fork()
        if pid == 0:
            channel.detach()
            _become_kernel(**json.loads(line))
        _answer(channel, pid)


def _answer(channel: socket.socket, pid: int) -> None:
    channel.sendall(f"{pid}\n".encode())


def _import() -> None:
    import ipykernel.kernelapp  # noqa: F401
    import ipywidgets
    import torch
    from transformers.utils import logging

    import workbench.session.session
    import workbench.widgets  # noqa: F401

    # Done at its import where that happens in a kernel: or a page asks for each widget by itself.
    ipywidgets.register_comm_target()
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # each has a thread that looks after it


def _models() -> list[str]:
    """What visitors may load, the one that a notebook starts with first."""
    from workbench.models import bundled
    from workbench.recipe import Recipe
    from workbench.widgets._host import allowed_models

    first = Recipe().model
    return sorted(allowed_models(list(bundled)), key=lambda name: name != first)


def _warm(model: str) -> None:
    """Load and observe `model`; one that cannot be had is the visitor's to hear of."""
    from workbench.session import Session

    started = time.perf_counter()
    try:
        Session(model).shelve()
    except Exception as problem:  # noqa: BLE001 - the others can be preheated all the same
        log.warning("%s is not preheated: %s", model, problem)
    else:
        log.info("%s is preheated, in %.1f s", model, time.perf_counter() - started)
    gc.collect()
    gc.freeze()  # so that a collection in a kernel does not write to what is shared


def _become_kernel(cmd: list[str], env: dict[str, str], cwd: str | None) -> NoReturn:
    """Do in this fork what `cmd`, "python -m ipykernel_launcher ...", would do in a new process."""
    try:
        os.setsid()
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(env)
        if cwd:
            os.chdir(cwd)
        sys.path.insert(0, "")
        _threads(env)
        from ipykernel.kernelapp import IPKernelApp

        arguments: list[Any] = cmd[cmd.index("ipykernel_launcher") + 1 :]
        arguments.append(f"--IPKernelApp.parent_handle={os.getppid()}")  # whose end is its own
        sys.argv = ["ipykernel_launcher", *arguments]
        IPKernelApp.launch_instance(arguments)
    except Exception:
        log.exception("a kernel could not start")
    finally:
        os._exit(0)  # never back into the nursery's loop


def _threads(env: dict[str, str]) -> None:
    import torch

    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", "1")))


if __name__ == "__main__":
    main()
