"""How a training went, as a picture: the loss by steps, and what the held-out texts said."""

from collections.abc import Mapping

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 150, 48, 40, 24


def learned_svg(
    losses: Mapping[int, float], judged: Mapping[int, float], metric: str, kept: int
) -> str:
    """Draw the losses, and a line with a word at each judgement; the one kept is bold."""
    last = max([*losses, *judged])
    low, high = min(losses.values()), max(losses.values())

    def x(step: int) -> float:
        return LEFT + WIDTH * step / last

    def y(loss: float) -> float:
        return TOP + HEIGHT * (high - loss) / ((high - low) or 1.0)

    points = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in sorted(losses.items()))
    width, height = LEFT + WIDTH + 56, TOP + HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"',
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f"<title>loss by steps, and held-out {metric}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="4" y="14" font-weight="bold">loss, and held-out {metric}</text>',
        f'<text x="{LEFT - 6}" y="{TOP + 4}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{LEFT - 6}" y="{TOP + HEIGHT}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{LEFT + WIDTH}" y="{height - 8}" text-anchor="end">{last} steps</text>',
        f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="1.5"/>',
    ]
    for step, value in sorted(judged.items()):
        at, weight = f"{x(step):.1f}", "bold" if step == kept else "normal"
        parts.append(f'<path d="M{at} {TOP}V{TOP + HEIGHT}" stroke="#bbbbbb"/>')
        parts.append(f'<text x="{at}" y="{TOP - 6}" text-anchor="middle" font-weight="{weight}">')
        parts.append(f"{value:.4g}</text>")
    return "\n".join([*parts, "</svg>"])
