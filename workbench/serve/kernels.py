"""Kernels of visitors: forked from the nursery where there is one, and capped in memory."""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager

from workbench.serve.nursery import READY

LINUX = sys.platform == "linux"
MEGABYTE = 1_000_000

started: ContextVar[list["VisitorKernel"]] = ContextVar("started")
"""Where a request for a page finds the kernel that was started for it."""


class Nursery:
    """The server's end of `workbench.serve.nursery`, which it starts."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", __name__.replace("kernels", "nursery")]
        # More threads than one would not survive the fork; a kernel takes those it may have then.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own arguments
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        self._channel = ours
        self._turn = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nursery")
        self._pids: SimpleQueue[int | None] = SimpleQueue()
        self.ready = False
        threading.Thread(target=self._listen, name="nursery", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether it can still fork."""
        return self.process.poll() is None

    async def fork(self, cmd: list[str], env: dict[str, str], cwd: str | None) -> "Forked":
        """Ask for a kernel and wait for it, as long as the imports take; OSError if it cannot."""
        request = json.dumps({"cmd": cmd, "env": env, "cwd": cwd}).encode() + b"\n"
        loop = asyncio.get_running_loop()
        return Forked(await loop.run_in_executor(self._turn, self._ask, request))

    def close(self) -> None:
        """Hang up: the nursery ends, and the kernels that it forked."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # it is in the middle of loading a model
            self.process.kill()
            self.process.wait()

    def _ask(self, request: bytes) -> int:
        self._channel.sendall(request)
        pid = self._pids.get()
        if pid is None:
            raise OSError("the nursery of kernels has ended")
        return pid

    def _listen(self) -> None:
        with self._channel.makefile("rb") as answers:
            for answer in answers:
                if int(answer) == READY:
                    self.ready = True
                else:
                    self._pids.put(int(answer))
        self._pids.put(None)


class Forked:
    """A kernel that is no child of ours, with as much of `subprocess.Popen` as Jupyter uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._handle: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._handle = None

    def poll(self) -> int | None:
        """None while it runs, 0 afterwards: only its parent learns the status."""
        if self._handle is None:
            return 0
        ended, _, _ = select.select([self._handle], [], [], 0)
        if not ended:
            return None
        os.close(self._handle)
        self._handle = None
        return 0

    def wait(self) -> int:
        """Block until it has ended."""
        if self._handle is not None:
            select.select([self._handle], [], [])
        self.poll()
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None and self._handle is not None:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class VisitorProvisioner(LocalProvisioner):
    """Starts a kernel as the server is configured to."""

    process: Any = None  # a Popen, or a Forked
    nursery: Nursery | None = None
    memory = 0
    """MB that a kernel may allocate; 0 for any."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Fork the kernel if the nursery can, else start a process of its own; cap its memory."""
        if not await self._forked(cmd, kwargs):
            await super().launch_kernel(cmd, **kwargs)
        self._cap()
        return self.connection_info

    async def _forked(self, cmd: list[str], launch: dict[str, Any]) -> bool:
        """Fork the kernel, unless there is no nursery, or it is no kernel of Python."""
        if self.nursery is None or not self.nursery.alive or "ipykernel_launcher" not in cmd:
            return False
        self.cwd = launch.get("cwd")
        try:
            self.process = await self.nursery.fork(cmd, launch["env"], self.cwd)
        except OSError:
            self.log.exception("kernels start from nothing from now on")
            return False
        self.pid = self.pgid = self.process.pid
        return True

    def _cap(self) -> None:
        if self.memory and LINUX and self.pid is not None:
            import resource

            most = self.memory * MEGABYTE
            with contextlib.suppress(ProcessLookupError):  # then it has ended already
                resource.prlimit(self.pid, resource.RLIMIT_DATA, (most, most))


class VisitorKernel(ServerKernelManager):
    """The kernel of one visitor."""

    async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        started.get([]).append(self)
        if self.provisioner is None:
            self.provisioner = VisitorProvisioner(
                kernel_id=self.kernel_id or "", kernel_spec=self.kernel_spec, parent=self
            )
        return await super()._async_pre_start_kernel(**kwargs)
