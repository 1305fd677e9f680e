"""Voila with what a public server needs: preheated, capped kernels, limits, headers, health."""

import json
import time
from html import escape
from pathlib import Path
from typing import Any

from jupyter_server.utils import url_path_join
from tornado import web
from traitlets import Bool, Int
from voila.app import Voila
from voila.tornado.handler import TornadoVoilaHandler

from workbench.serve.health import Health
from workbench.serve.kernels import LINUX, Nursery, VisitorKernel, VisitorProvisioner, started

TEMPLATE = Path(__file__).parent / "template"
THEMES = ("light", "dark")
MOST_MESSAGE = 4_000_000  # bytes from a browser at once: an upload and what travels around it
HEARTBEAT = 2  # seconds of silence after which a page that is being made looks at its kernel

# What draws our widgets; the other extensions of a JupyterLab would only delay the page.
EXTENSIONS = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
]

# Widgets come as modules in blobs, and JupyterLab's own code compiles its schemas.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' ws: wss: data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
REFUSAL = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Quantization Workbench</title><style>:root {{ color-scheme: light dark }}
body {{ font: 18px/1.5 system-ui, sans-serif; max-width: 40em; margin: 15vh auto; padding: 0 1em }}
</style><h1>This page cannot be shown</h1><p role="alert">{}</p></html>"""
TRY = "if that does not help, tell whoever runs this server: its log says more."
ENDED = (
    "The program behind it ended before the page was ready: it could not be started, or needed "
    'more memory than {}. <a href="">Try again</a>; ' + TRY
)


class Page(TornadoVoilaHandler):
    """A page with a kernel of its own, unless there are as many as there may be."""

    @web.authenticated
    async def get(self, path: str | None = None) -> None:
        """Refuse in words what cannot be served; else start a kernel and run the notebook."""
        theme, most = self.get_argument("theme", None), self.settings["visitors"]
        if theme not in (None, *THEMES):
            self._refuse(400, f"There is no theme {theme[:40]!r}; allowed: light, dark.")
        elif len(self.kernel_manager.list_kernel_ids()) >= most:
            self.set_header("Retry-After", "60")
            self._refuse(
                503,
                f"{most} visitors are here, as many as this server has room for. Try again in a "
                "few minutes: whoever is idle makes room.",
            )
        else:
            _ = self.xsrf_token  # sets the cookie without which a page that is left cannot say so
            await self._write(path)

    async def _write(self, path: str | None) -> None:
        """Send the page as it is made, and say so if its kernel ends before: Voila would wait."""
        kernels: list[VisitorKernel] = []
        started.set(kernels)
        begun = False
        async for html in self.get_generator(path=path):
            if kernels and not await kernels[0].is_alive():
                memory = VisitorProvisioner.memory
                said = ENDED.format(f"the {memory} MB it may have" if memory else "there is")
                page = json.dumps(REFUSAL.format(said))
                self.write(f"<script>document.documentElement.innerHTML = {page}</script>")
                return
            begun = begun or not html.startswith("<script>window.voila_heartbeat()")
            if begun:  # a busy server's heart beats before it has said what kind of page this is
                self.write(html)
                self.flush()

    def _refuse(self, status: int, sentence: str) -> None:
        self.set_status(status)
        self.finish(REFUSAL.format(escape(sentence)))


class AppServer(Voila):
    """Serves a folder of notebooks to visitors."""

    memory = Int(2000, config=True, help="MB that a visitor's kernel may allocate; 0 for any.")
    visitors = Int(20, config=True, help="Kernels at once; whoever comes then is asked to wait.")
    preheat = Bool(True, config=True, help="Fork kernels from a process that has loaded all.")

    def initialize(self, argv: list[str] | None = None) -> None:
        """Read the options; what they leave open is chosen for a page of our widgets."""
        super().initialize(argv)
        options = self.voila_configuration
        options.extension_allowlist = options.extension_allowlist or EXTENSIONS
        options.extension_denylist = options.extension_denylist or []
        options.allow_template_override = "NO"
        options.http_keep_alive_timeout = HEARTBEAT
        self.config.VoilaExecutor.cell_error_instruction = f"Reload the page; {TRY}"
        self.template_paths.insert(0, str(TEMPLATE))
        self.config.MappingKernelManager.kernel_manager_class = _name(VisitorKernel)
        # A new process under the old page would know nothing of it; that its session ended is true.
        self.config.KernelRestarter.restart_limit = 0
        settings: dict[str, Any] = {
            "headers": HEADERS,
            "websocket_max_message_size": MOST_MESSAGE,
            "visitors": self.visitors,
            "started": time.monotonic(),
        }
        self.tornado_settings = settings
        VisitorProvisioner.memory = self.memory
        if self.preheat and LINUX:
            VisitorProvisioner.nursery = Nursery()

    def init_handlers(self) -> list[Any]:
        """Voila's handlers, the pages with our limits, and the health of the server."""
        health = (url_path_join(self.server_url, "/healthz"), Health)
        replaced = [
            (route, Page if handler is TornadoVoilaHandler else handler, *rest)
            for route, handler, *rest in super().init_handlers()
        ]
        return [health, *replaced]

    def stop(self) -> None:
        """End the kernels and the nursery."""
        super().stop()
        if VisitorProvisioner.nursery is not None:
            VisitorProvisioner.nursery.close()


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


if __name__ == "__main__":
    AppServer.launch_instance()
