"""What a person has chosen: one for each session, and every view over it shows and changes it."""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import traitlets as t

if TYPE_CHECKING:
    from workbench.session import Session


class Selection(t.HasTraits):
    """The chosen input of a session's model."""

    group = t.Unicode("")
    """A key of `session.statistics.entries`; empty before there are any.
    - Type: `str`, default: `""`
    """


_selections: "WeakKeyDictionary[Session, Selection]" = WeakKeyDictionary()


def selection_of(session: "Session") -> Selection:
    """The selection that all views of `session` share."""
    return _selections.setdefault(session, Selection())
