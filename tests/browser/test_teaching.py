"""The first lecture as its students meet it: pictures that are true, an exercise that checks."""

import math

import numpy as np
import pytest
from drawn import Plot

pytestmark = pytest.mark.browser


def test_a_lecture_draws_the_law_and_checks_an_answer(new_page, voila, pictures) -> None:
    page = new_page("lecture")
    address = f"{voila}/voila/render/teaching_1_quantization_from_scratch.ipynb"
    page.goto(address, wait_until="commit")
    noise = page.get_by_role("img", name="Signal over rounding noise")
    noise.wait_for(timeout=300_000)

    # Noise spread evenly over a step of 2 / (2^b - 2) under a signal spread evenly over -1 to 1:
    # 20 log10(2^b - 2), derived; the sample is random, and of 200 000 numbers.
    bits, drawn = Plot(noise).curve("evenly spread")
    np.testing.assert_allclose(bits, range(2, 11), atol=0.02)
    np.testing.assert_allclose(drawn[2:], 20 * np.log10(2 ** bits.round()[2:] - 2), atol=0.3)

    answer = page.get_by_label("Your answer (dB):")
    check = page.get_by_role("button", name="Check")
    answer.fill("40")
    check.click()
    page.get_by_text("Not yet. Hint: The step is").wait_for()
    answer.fill(f"{10 * math.log10(0.1**2 * 12 / (0.8 / 127) ** 2):.1f}")
    check.click()
    page.get_by_text("✓ Right.").wait_for()
    page.screenshot(path=pictures / "lecture.png", full_page=True)
