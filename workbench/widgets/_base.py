"""The common base of all views: follows a session, refuses unknown keywords, shows its errors."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import anywidget
import traitlets as t

from workbench.errors import WorkbenchError
from workbench.widgets import _assets
from workbench.widgets._selection import selection_of

if TYPE_CHECKING:
    from workbench.session import Job, Session

ACTIVE = ("queued", "running")
log = logging.getLogger(__name__)


class Refused(WorkbenchError, t.TraitError):
    """A value refused by a trait's validator; traitlets takes back what is a `TraitError`."""


@contextmanager
def checked() -> Iterator[None]:
    """Let the recipe judge a value inside a validator: what it refuses, the trait refuses."""
    try:
        yield
    except WorkbenchError as problem:
        raise Refused(str(problem)) from problem


class View(anywidget.AnyWidget):
    """One view of a session. Nothing here computes: views queue jobs and show cached arrays."""

    module: ClassVar[str]
    """Name of the ES module in `static/` that draws this view."""
    calls: ClassVar[tuple[str, ...]] = ()
    """Methods that a button in the browser may call; there is one button for each."""
    verbs: ClassVar[tuple[str, ...]] = ()
    """Session verbs whose jobs this view starts, follows and may cancel."""

    error = t.Unicode("").tag(sync=True)
    """What went wrong last and what to do, shown under the view.
    - Type: `str`, default: `""` (nothing is shown)
    """
    job = t.Dict().tag(sync=True)
    """Newest job of this view: `verb`, `state`, `what`, `done`, `total`, `remaining`
    (seconds), the `reason` why it failed or was cancelled, and whether it is `paused`.
    - Type: `dict`, default: `{}` (none yet)
    """
    note = t.Unicode("").tag(sync=True)
    """What a reader must know about the model, such as that its outliers were made for teaching.
    - Type: `str`, default: `""`
    """
    _own_id = t.Unicode().tag(sync=True)
    """Id of this view, by which its browser half finds the widget that it draws."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "module" in cls.__dict__:
            cls._esm = _assets.module(cls.module)
            cls._css = _assets.stylesheet()

    def __init__(self, session: "Session", **keywords: Any) -> None:
        known = [name for name in self.trait_names() if not name.startswith("_")]
        for name in keywords:
            if name not in known:
                own = ", ".join(sorted(set(known) - set(View.class_trait_names())))
                raise WorkbenchError(
                    f"{type(self).__name__} has no option {name!r}; its own are: {own or 'none'}. "
                    "Check the spelling."
                )
        self.session = session
        self._problem = ""
        self._turn = threading.Lock()
        self._again = False
        self._behind = False
        self._closed = False
        self._follower: int | None = None
        self._shown: Any = None
        own = uuid4().hex
        super().__init__(model_id=own, _own_id=own, **keywords)
        self._share_selection(given="group" in keywords)
        self.on_msg(self._pressed)
        self._unsubscribe: Callable[[], None] = session.subscribe(lambda _: self.follow())
        self.follow()

    def _share_selection(self, *, given: bool) -> None:
        """Let a view with a `group` show and change what is chosen in its session."""
        self._link: t.link | None = None
        if self.has_trait("group"):
            ends = (selection_of(self.session), "group"), (self, "group")
            self._link = t.link(*(reversed(ends) if given else ends))

    def refresh(self) -> None:
        """Copy into the traits what this view shows of its session; never computes at length."""

    def follow(self) -> None:
        """Bring the view up to date; called from any thread, and never waits for another one.

        A call that arrives during another one's turn only asks for one more turn, so that an older
        snapshot never overwrites a newer one.
        """
        self._again = True
        while self._again and not self._closed and self._turn.acquire(blocking=False):
            try:
                self._again = False
                self._follower = threading.get_ident()
                self._show_job()
                self.refresh()
                if self._behind:
                    self._behind = False
                    self.send_state([name for name in self.keys if not name.startswith("_")])
            except Exception as problem:  # a view must not fail the job it watches
                log.exception("a view could not follow its session")
                self.error = f"this view is out of date: {problem}"
            finally:
                self._follower = None
                self._turn.release()

    @property
    def following(self) -> bool:
        """Whether this thread is inside `refresh`, so that a change of a trait is no edit."""
        return self._follower == threading.get_ident()

    def recipe_is_new(self) -> bool:
        """Whether the recipe was replaced since the last call; `refresh` shows only a new one.

        A notice of progress must not take back an edit that has not reached the recipe yet.
        """
        recipe = self.session.recipe
        new, self._shown = recipe is not self._shown, recipe
        return new

    def submit(self, verb: str, *arguments: Any) -> "Job":
        """Queue `verb` on the session's worker and forget the error shown before."""
        self._problem = ""
        job = self.session.submit(verb, *arguments)
        self.follow()
        return job

    def cancel(self) -> None:
        """Cancel every job of the session that is queued or running."""
        for job in reversed(list(self.session.jobs)):  # the queued ones first, so that none starts
            if job.state in ACTIVE:
                job.cancel()
        self.follow()

    def close(self) -> None:
        """Stop following the session and remove the view."""
        self._closed = True
        if hasattr(self, "_unsubscribe"):  # not so if the constructor refused its arguments
            self._unsubscribe()
            link, self._link = self._link, None  # a view may be closed twice
            if link is not None:
                link.unlink()
        super().close()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take an edit made in the browser; one that is refused is explained there and undone."""
        taken = False
        with self._turn, self._explained():  # no other thread's refresh between edit and observers
            super().set_state(sync_data)
            taken = True
        if not taken:
            self._shown = None
            self.send_state([name for name in sync_data if name in self.keys])
        self.follow()

    def _pressed(self, _: Any, content: dict[str, Any], __: Any) -> None:
        name = content.get("call")
        if name == "catch_up":  # said by a page that is drawn, which may have missed messages
            self._behind = True
            self.follow()
        elif name in self.calls or name == "cancel":
            with self._explained():
                getattr(self, name)(*content.get("arguments", []))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an exception into the text of the error strip; a front end would swallow it."""
        try:
            self._problem = ""
            yield
        except Exception as problem:
            if not isinstance(problem, WorkbenchError | t.TraitError):
                log.exception("a widget's call failed")
            self._problem = str(problem) or type(problem).__name__
        self._show_job()

    def _show_job(self) -> None:
        mine = [job for job in list(self.session.jobs) if job.verb in self.verbs]
        job = next((job for job in mine if job.state in ACTIVE), mine[-1] if mine else None)
        failure = ""
        if job is not None:
            failure = job.error or "" if job.state == "failed" else ""
            self.job = {
                "verb": job.verb,
                "state": job.state,
                "what": job.what,
                "done": job.done,
                "total": job.total,
                "remaining": job.remaining_s,
                "reason": job.error or "",
                "paused": job.paused,
            }
        self.error = self._problem or failure
        self.note = self.session.loaded.note if self.session.loaded else ""
