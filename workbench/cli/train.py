"""`workbench train`: teach an encoder to classify texts, on its own or from a teacher."""

import argparse
from pathlib import Path

TRAIN = """\
Fine-tune a model on labelled texts (a tab-separated file with a header), in batches of one length,
with the best weights on the held-out file kept. With --teacher, a classifier that `train` or
transformers wrote, its answers are the targets, and its hidden states too with --hidden. The same
command goes on after an interruption. What is written is a transformers folder.
"""

TRAIN_EXAMPLES = """\
examples:
  workbench train minilm --train train.tsv --held-out dev.tsv --test test.tsv --out teacher
  workbench train --teacher teacher --layers 0 2 5 --train train.tsv --held-out dev.tsv --out small
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    train = commands.add_parser(
        "train",
        help="fine-tune a classifier of texts, with or without a teacher",
        description=TRAIN,
        epilog=TRAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument(
        "model", nargs="?", metavar="MODEL",
        help="an encoder, or a classifier to train on (default: layers of the teacher)",
    )  # fmt: skip
    train.add_argument("--train", type=Path, required=True, metavar="FILE", help="to learn from")
    train.add_argument("--held-out", type=Path, required=True, metavar="FILE", help="to judge by")
    train.add_argument("--test", type=Path, metavar="FILE", help="judged once, at the end")
    train.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the model")
    train.add_argument("--text", default="sentence", help="column (default: %(default)s)")
    train.add_argument("--label", default="label", help="column (default: %(default)s)")
    train.add_argument("--limit", type=int, metavar="N", help="texts to learn from, by --seed")
    train.add_argument("--length", type=int, default=64, help="tokens at most (default: 64)")
    train.add_argument("--teacher", metavar="MODEL", help="a classifier to learn from")
    train.add_argument("--layers", type=int, nargs="+", metavar="N", help="keep these, from 0")
    train.add_argument("--hidden", type=float, default=0.0, help="weight of hidden states")
    train.add_argument("--temperature", type=float, default=2.0, help="default: %(default)s")
    train.add_argument("--epochs", type=float, default=2.0, help="default: %(default)s")
    train.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    train.add_argument("--learning-rate", type=float, default=5e-5, help="default: %(default)s")
    train.add_argument("--judgements", type=int, default=4, help="times (default: %(default)s)")
    train.add_argument(
        "--frozen", nargs="+", default=[], metavar="PATTERN", help="parameters to leave as they are"
    )
    train.add_argument("--bf16", action="store_true", help="multiply matrices in bfloat16")
    train.add_argument("--threads", type=int, metavar="N", help="of torch")
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    train.set_defaults(command=_train)


def _train(arguments: argparse.Namespace) -> int:
    import torch
    from pydantic import ValidationError

    from workbench.compare.tasks.documents import drawn
    from workbench.compare.tasks.labels import classification_scores, read_table
    from workbench.compress import (
        Distillation,
        Training,
        classifier,
        distil,
        of_layers,
    )
    from workbench.console import at_work, console
    from workbench.errors import WorkbenchError, complaint
    from workbench.models.load import load
    from workbench.waterfall.texts import labelled_examples

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.model is None and arguments.teacher is None:
        raise WorkbenchError("name a MODEL to train, or a --teacher to take layers from")
    try:
        training = Training(
            **{n: v for n, v in vars(arguments).items() if n in Training.model_fields}
        )
        losses = Distillation(hidden=arguments.hidden, temperature=arguments.temperature)
    except ValidationError as error:
        raise WorkbenchError(complaint(error)) from error
    columns = (arguments.text, arguments.label, None)
    rows = drawn(read_table(arguments.train, *columns), arguments.limit, arguments.seed)
    held_out = read_table(arguments.held_out, *columns)
    teacher = None if arguments.teacher is None else load(arguments.teacher)
    if arguments.model is None:
        assert teacher is not None
        student = of_layers(teacher, arguments.layers or [])
    else:
        student = load(arguments.model)
        if student.kind != "classifier":
            student = classifier(student, sorted({row.label for row in rows}), arguments.seed)
        if arguments.layers:
            student = of_layers(student, arguments.layers)
    learn, judge = (
        labelled_examples(found, student, arguments.length, where)
        for found, where in ((rows, arguments.train), (held_out, arguments.held_out))
    )
    with at_work():
        learned = distil(
            student,
            learn,
            judge,
            arguments.out,
            teacher=teacher,
            distillation=losses,
            training=training,
        )
    screen = console()
    screen.print(
        f"held out: {learned.metric} {learned.judged[learned.kept]:.4f} after {learned.kept} "
        f"steps, in {learned.seconds:.0f} s"
    )
    if arguments.test is not None:
        documents = read_table(arguments.test, *columns)
        found = classification_scores(student.model, student, documents, task="test")
        screen.print(f"test: accuracy {found.mean:.4f} on {len(documents)} texts")
    return 0
