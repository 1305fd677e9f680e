"""How the server is, without starting anything."""

import os
import time
from typing import Any

import psutil
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler

import workbench
from workbench.serve.kernels import VisitorProvisioner

MEGABYTE = 1_000_000


class Health(JupyterHandler):
    """GET answers in JSON: 200 while pages can be served, 503 when no visitor more has room."""

    @allow_unauthenticated
    def get(self) -> None:
        """Say version, kernels, memory in MB and whether the models are preheated."""
        kernels, most = len(self.kernel_manager.list_kernel_ids()), self.settings["visitors"]
        nursery = VisitorProvisioner.nursery
        report: dict[str, Any] = {
            "status": "ok" if kernels < most else "full",
            "version": workbench.__version__,
            "uptime_s": round(time.monotonic() - self.settings["started"], 1),
            "kernels": kernels,
            "visitors": most,
            "preheated": bool(nursery and nursery.alive and nursery.ready),
            "memory_mb": round(_resident() / MEGABYTE),
        }
        self.set_status(200 if kernels < most else 503)
        self.set_header("Cache-Control", "no-store")
        self.finish(report)


def _resident() -> int:
    """Bytes of this process and all below it; memory that forks share counts once.

    Linux knows each process's share of what it shares (PSS); elsewhere whole sizes are summed.
    """
    total = 0
    this = psutil.Process(os.getpid())
    for process in (this, *this.children(recursive=True)):
        try:
            found = process.memory_full_info()
        except psutil.Error:  # it has just ended
            continue
        total += getattr(found, "pss", found.rss)
    return total
