"""What was measured, and what notebooks were left with, kept in a small database."""

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from workbench.compare import Comparison
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.session.host import served

VARIABLE = "WORKBENCH_HISTORY"
OFF = ("", "off", ":memory:")
FORMAT = 1  # the database's `user_version`
SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    key TEXT PRIMARY KEY, made TEXT NOT NULL, content TEXT NOT NULL, data TEXT NOT NULL,
    setting TEXT NOT NULL, document TEXT NOT NULL
)"""
PAIRS = "CREATE TABLE IF NOT EXISTS pairs (key TEXT PRIMARY KEY, document TEXT NOT NULL)"
LEFT = """
CREATE TABLE IF NOT EXISTS left_recipes (
    place TEXT PRIMARY KEY, made TEXT NOT NULL, document TEXT NOT NULL
)"""
WAIT_SECONDS = 10  # for another process that writes
T = TypeVar("T")


class Run(BaseModel):
    """One measured point.

    `key` stands for all that it depends on (`workbench.session.keys`), `content` for the float
    model's weights, `data` for the batches it was judged on, `setting` for code version, machine
    and threads. `bytes` are those of all weights, as those of the float model in `float_bytes`;
    `prefill_ms` and `float_prefill_ms` are medians, where speed was measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    content: str
    data: str
    setting: str
    recipe: Recipe
    comparison: Comparison
    bytes: int | None = None
    float_bytes: int | None = None
    prefill_ms: float | None = None
    float_prefill_ms: float | None = None
    made: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def samples(self) -> int:
        """Tokens, or for an encoder sentences, that it was judged on."""
        return self.comparison.tokens or self.comparison.sentences or 0


class Left(BaseModel):
    """The recipe in force when a notebook was last edited, and when that was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    made: datetime = Field(default_factory=lambda: datetime.now(UTC))


class History:
    """The runs of this process and, with a file, of all that share it.

    Where the file cannot be read or written, `problem` says so, the file stays as it is, and runs
    are kept in memory.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.problem = ""
        self._lock = RLock()
        self._runs: dict[str, Run] = {}
        self.added = 0  # so that a view can tell whether there is something new

    @classmethod
    def default(cls) -> "History":
        """The user's own history, the file that $WORKBENCH_HISTORY names, or none ("off").

        A visitor of an app has one in memory, so that none sees what another did.
        """
        named = os.environ.get(VARIABLE)
        if served() or (named is not None and named.strip() in OFF):
            return cls()
        return cls(data_folder() / "history.sqlite" if named is None else Path(named).expanduser())

    def get(self, key: str) -> Run | None:
        """The run of this key, if there is one."""
        with self._lock:
            if key not in self._runs:
                self._runs |= {run.key: run for run in self._read("key = ?", key)}
            return self._runs.get(key)

    def add(self, run: Run) -> None:
        """Keep `run`, in place of one with the same key."""
        document = json.dumps(run.model_dump(), default=str)  # with the infinities that JSON lacks
        row = (run.key, run.made.isoformat(), run.content, run.data, run.setting, document)
        statement = "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)"
        with self._lock:
            self._runs[run.key] = run
            self.added += 1
            self._ask(lambda base: base.execute(statement, row), write=True)

    def pair(self, key: str) -> object:
        """The two sides measured under this key, as `add_pair` was given them; None for none."""

        document = self._document("pairs", "key", key)
        return None if document is None else json.loads(document)

    def add_pair(self, key: str, pair: BaseModel) -> None:
        """Keep two sides measured against each other, where there is a file."""
        row = key, json.dumps(pair.model_dump(), default=str)
        with self._lock:
            self._ask(
                lambda base: base.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?)", row),
                write=True,
            )

    def left(self, place: str) -> Left | None:
        """The recipe that `place`, a notebook, was left with; None where nothing is known."""
        document = self._document("left_recipes", "place", place)
        try:
            return None if document is None else Left.model_validate_json(document)
        except ValueError:  # of another version, which may read it again
            return None

    def leave(self, place: str, recipe: Recipe) -> None:
        """Keep `recipe` as what `place` was left with, where there is a file."""
        left = Left(recipe=recipe)
        row = place, left.made.isoformat(), left.model_dump_json()
        statement = "INSERT OR REPLACE INTO left_recipes VALUES (?, ?, ?)"
        with self._lock:
            self._ask(lambda base: base.execute(statement, row), write=True)

    def runs(self, content: str, setting: str) -> list[Run]:
        """All runs of one model in one setting, oldest first; those of other processes too."""
        with self._lock:
            found = self._read("content = ? AND setting = ?", content, setting)
            self._runs |= {run.key: run for run in found}
            mine = [r for r in self._runs.values() if (r.content, r.setting) == (content, setting)]
        return sorted(mine, key=lambda run: run.made)

    def _read(self, where: str, *values: str) -> list[Run]:
        query = f"SELECT document FROM runs WHERE {where}"  # noqa: S608 - our own words
        found = []
        for (document,) in self._ask(lambda base: base.execute(query, values).fetchall()) or []:
            try:
                found.append(Run.model_validate(json.loads(document)))
            except ValueError:  # of another version, which may read it again
                continue
        return found

    def _document(self, table: str, column: str, value: str) -> str | None:
        """The document whose `column` is `value` in a table that an older file may not have."""

        def read(base: sqlite3.Connection) -> list[tuple[str]]:
            if not base.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                return []
            query = f"SELECT document FROM {table} WHERE {column} = ?"  # noqa: S608 - our own words
            return base.execute(query, (value,)).fetchall()

        with self._lock:
            found = self._ask(read)
        return found[0][0] if found else None

    def _ask(self, action: Callable[[sqlite3.Connection], T], *, write: bool = False) -> T | None:
        """Give `action` a connection for one transaction; None where there is none to be had."""
        if self.path is None:
            return None
        try:
            if not write and not self.path.exists():
                return None
            open_it = _open_to_write if write else _open
            with closing(open_it(self.path)) as database, database:
                found = action(database)
            self.problem = ""
        except (sqlite3.Error, OSError, WorkbenchError) as error:
            self.problem = (
                f"the history of runs {self.path} cannot be {'written' if write else 'read'} "
                f"({error}); it stays as it is, and runs are kept until this session ends. Mend or "
                f"move the file, or name another with {VARIABLE}"
            )
            return None
        return found


def _open(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        return _checked(sqlite3.connect(address, timeout=WAIT_SECONDS, uri=True))
    except sqlite3.OperationalError:  # as in a folder where the database's log cannot be made
        return _checked(sqlite3.connect(f"{address}&immutable=1", uri=True))


def _open_to_write(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = _checked(sqlite3.connect(path, timeout=WAIT_SECONDS))
    connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        connection.execute(SCHEMA)
        connection.execute(PAIRS)
        connection.execute(LEFT)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    return connection


def _checked(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return `connection` if this version reads its format, and close it otherwise."""
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise WorkbenchError(
                f"its format is {found} and this version reads {FORMAT}: a newer "
                "quantization-workbench wrote it"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def data_folder() -> Path:
    """Where a user's data are kept on this system."""
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Application Support"
    else:
        root = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(root) / "quantization-workbench"
