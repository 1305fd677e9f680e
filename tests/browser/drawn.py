"""Read values back out of the picture: from coordinates and scales, never from what was sent."""

import re

import numpy as np


class Plot:
    """One SVG chart on a page, with the scales that its frame declares."""

    def __init__(self, locator) -> None:
        self.locator = locator
        self.data = locator.evaluate("node => ({...node.dataset})")

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The points of series `name` as values on the two axes."""
        read = """(node, name) => {
            const path = node.querySelector(`path[data-series='${name}']`);
            return [{...node.dataset}, path.getAttribute('d')];
        }"""
        self.data, path = self.locator.evaluate(read, name)  # at once: it may be drawn anew
        points = np.array([[float(v) for v in pair.split()] for pair in re.split("[ML]", path)[1:]])
        return self.value("x", points[:, 0]), self.value("y", points[:, 1])

    def value(self, axis: str, pixel):
        """What a coordinate stands for."""
        ends = ("left", "right") if axis == "x" else ("bottom", "top")
        first, last = (float(self.data[end]) for end in ends)
        low, high = float(self.data[f"{axis}0"]), float(self.data[f"{axis}1"])
        share = (np.asarray(pixel, dtype=float) - first) / (last - first)
        if self.data[f"{axis}Scale"] == "log":
            return low * (high / low) ** share
        return low + share * (high - low)


def go(page, step: str) -> None:
    """Open one step of the workbench; "all" puts every one on the page."""
    page.locator(f"[data-view=stepper] [data-step={step}]").click()


def strip(page, name: str) -> Plot:
    """One of the alpha explorer's charts: activation, weight, difficulty or measured."""
    return Plot(page.locator(f"svg[data-strip={name}]"))


def pixels(page, row: int, columns: int) -> np.ndarray:
    """Colours [columns, 3] in the middle of heatmap row `row`."""
    read = """(canvas, [row, columns]) => {
        const height = canvas.height / canvas.dataset.rows;
        const y = Math.floor(row * height + height / 2 - 1);
        const context = canvas.getContext('2d');
        return Array.from({length: columns}, (_, i) => Array.from(context.getImageData(
            Math.floor((i + 0.5) * canvas.width / columns), y, 1, 1).data.slice(0, 3)));
    }"""
    return np.array(page.locator("canvas.qw-heat").evaluate(read, [row, columns]))


def brightness(page, selector: str, what: str) -> float:
    """Brightness 0..1 of a computed colour (`color` or `backgroundColor`)."""
    colour = page.locator(selector).first.evaluate(f"node => getComputedStyle(node).{what}")
    red, green, blue = [float(v) / 255 for v in re.findall(r"[\d.]+", colour)[:3]]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
