"""Write the card of a trained bundled model: `python -m workbench.compare.card RUN MODEL`.

`RUN` is the output folder of `train_pylm`, `MODEL` the folder of the finished model, which is
evaluated here and now.
"""

import argparse
import json
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, MARGIN = 640, 300, 44


def read_losses(path: Path) -> dict[str, dict[int, float]]:
    """Training and held-out losses by step; where a resume repeated a step, the last."""
    curves: dict[str, dict[int, float]] = {"loss": {}, "eval_loss": {}}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for key, curve in curves.items():
            if key in row:
                curve[row["step"]] = row[key]
    return {key: dict(sorted(curve.items())) for key, curve in curves.items()}


def loss_curve(curves: dict[str, dict[int, float]]) -> str:
    """Draw both losses over steps as an SVG that reads on light and on dark pages."""
    last = max(step for curve in curves.values() for step in curve)
    top = max(loss for curve in curves.values() for loss in curve.values())

    def point(step: int, loss: float) -> str:
        x = MARGIN + step / last * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - loss / top * (HEIGHT - 2 * MARGIN)
        return f"{x:.1f},{y:.1f}"

    styles = {
        "loss": ("training", 'stroke="#4878d0" stroke-width="1.5"'),
        "eval_loss": ("held out", 'stroke="#d65f5f" stroke-width="2" stroke-dasharray="6 3"'),
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
        'font-family="sans-serif" font-size="12" fill="#888">',
        "<title>Loss in nats per token over training steps</title>",
    ]
    for loss in range(int(top) + 1):
        left, right = point(0, loss), point(last, loss)
        x, y = left.split(",")
        parts.append(f'<polyline points="{left} {right}" stroke="#8884" fill="none"/>')
        parts.append(f'<text x="{float(x) - 8}" y="{float(y) + 4}" text-anchor="end">{loss}</text>')
    for index, (key, (label, style)) in enumerate(styles.items()):
        points = " ".join(point(step, loss) for step, loss in curves[key].items())
        parts.append(f'<polyline points="{points}" fill="none" {style}/>')
        height = MARGIN + 18 * index
        line = f"{WIDTH - 170},{height} {WIDTH - 140},{height}"
        parts.append(f'<polyline points="{line}" fill="none" {style}/>')
        parts.append(f'<text x="{WIDTH - 132}" y="{height + 4}">{label}</text>')
    middle = WIDTH // 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">step of {last}</text>')
    return "\n".join([*parts, "</svg>", ""])


def card(training: dict[str, Any], curves: dict[str, dict[int, float]], quality: str) -> str:
    """The text of the card."""
    arguments = training["arguments"]
    gain = arguments["outlier_gain"]
    name = "pylm" if gain == 1 else "pylm-outliers"
    note = ""
    if gain != 1:
        channels = ", ".join(map(str, training["outlier_channels"]))
        note = (
            f"\n**Made to teach:** the gains of channels {channels} in every block norm were held\n"
            f"at {gain:g} from the first step to the last, so that this model has the outlier\n"
            "channels of a large one. The columns that read them started, and learnt, smaller by\n"
            "the square root of that gain.\n"
        )
    stages = stages_of(training)
    if len(stages) > 1:
        note += (
            f"\nIt was trained in {len(stages)} stages; OUT of one is FIRST of the next, and the "
            "figures and the\ncurve below are of the last. The floor adds to the loss how far, in "
            "each row, activation times\nweight of these channels falls short of that multiple of "
            "the others', so that outliers hurt in\nthe weights as they do in the activations:\n\n"
        )
        note += "".join(
            f"* `{command(stage['arguments'])}`: held-out loss {stage['held_out_loss']:.3f}\n"
            for stage in stages
        )
    losses, held_out = list(curves["loss"].items()), training["held_out"]
    return f"""# {name}

A Llama-architecture language model of Python source with {training["parameters"]:,} parameters,
trained by this project on the standard library of Python {training["python"]} with
`{command(arguments)}`
(seed {arguments["seed"]}, torch {training["torch"]}, bf16 on two CPU cores).
{note}
| | files | tokens |
|---|---|---|
| training | {training["training"]["files"]:,} | {training["training"]["tokens"]:,} |
| held out, by hash of the name | {held_out["files"]:,} | {held_out["tokens"]:,} |

It saw {training["tokens_seen"]:,} tokens in {arguments["steps"]:,} steps of {arguments["batch"]} x
{arguments["length"]}. The training loss went from {losses[0][1]:.2f} to {losses[-1][1]:.2f} nats
per token; the held-out loss at the end is {training["held_out_loss"]:.3f}.

![loss](loss.svg)

{quality}

The evaluation text is this project's own code, which is no part of the training data. A completion
is 64 greedy tokens after a fixed prompt of 128, cut at the last complete line; it counts as parsed
if prompt and completion, cut to whole statements, parse and at least three non-blank new lines
came. The prompts are those whose true continuation counts, so a perfect model would reach 200.

Weights: Apache-2.0. The standard library they were trained on is under the PSF license.
"""


def stages_of(training: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of the runs that led to a model, the first run first."""
    first = training["arguments"].get("start")
    return [*(stages_of(first) if first else []), training]


def command(arguments: dict[str, Any]) -> str:
    """The call that repeats a run, given the model that it started from if there was one."""
    text = "python -m workbench.models.train_pylm OUT"
    if arguments.get("start"):
        text += f" --start FIRST --outlier-floor {arguments['outlier_floor']:g}"
    for name in ("outlier_gain", "steps", "learning_rate"):
        text += f" --{name.replace('_', '-')} {arguments[name]:g}"
    return text


def measure(folder: Path) -> str:
    """Evaluate the model in `folder` in float32 on the pinned text; the result as a sentence."""
    from workbench.compare import parse_rate, perplexity
    from workbench.models import load

    loaded = load(folder)
    found = perplexity(loaded.model, loaded.batches("evaluation"))
    parsed = parse_rate(loaded, loaded.model)
    return (
        f"On the pinned evaluation text: perplexity **{found.perplexity:.2f}** over "
        f"{found.tokens:,} tokens in sequences of 256; **{parsed.parsed} of {parsed.total}** "
        "completions parse."
    )


def main() -> None:
    """Write README.md and loss.svg into the model folder."""
    parser = argparse.ArgumentParser(prog="python -m workbench.compare.card", description=__doc__)
    parser.add_argument("run", type=Path, help="output folder of train_pylm")
    parser.add_argument("model", type=Path, help="folder of the finished model")
    arguments = parser.parse_args()
    training = json.loads((arguments.model / "training.json").read_text(encoding="utf-8"))
    curves = read_losses(arguments.run / "losses.jsonl")
    text = card(training, curves, measure(arguments.model))
    (arguments.model / "README.md").write_text(text, encoding="utf-8")
    (arguments.model / "loss.svg").write_text(loss_curve(curves), encoding="utf-8")


if __name__ == "__main__":
    main()
