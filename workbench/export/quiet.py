"""Converters in silence, and without the usage data that some send unasked."""

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import transformers

_BY_FILE = Path(transformers.__file__).with_name("exporters") / "exporter_dynamo.py"
LOGGERS = ("torch.onnx", "transformers.exporters", str(_BY_FILE))  # the last is called so


@contextmanager
def in_private() -> Iterator[None]:
    """Convert without sending usage data to Google, as openvino and nncf do, without chatter."""
    private = {"CI": "true", "NNCF_CI": "1"}  # their own switches
    before = {name: os.environ.get(name) for name in private}
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    os.environ.update(private)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
