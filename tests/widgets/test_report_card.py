"""The report card against the session that it sums up."""

import json

import pytest

from workbench.widgets import ReportCard


def test_card_is_empty_until_made_and_then_says_what_the_session_found(session) -> None:
    card = ReportCard(session)
    assert (card.rows, card.layers) == ([], [])
    assert card.make().wait(60).state == "done"
    card.follow()
    found = session.comparison
    rows = {row["key"]: row for row in card.rows}
    assert rows["perplexity"]["quantized"] == pytest.approx(found.perplexity)
    assert rows["perplexity"]["float"] == pytest.approx(found.perplexity_reference)
    assert rows["bytes"]["quantized"] < rows["bytes"]["float"]
    assert [layer["name"] for layer in card.layers] == [one.name for one in session.plan.layers]
    norm = next(
        layer for layer in card.layers if layer["name"].endswith("layers.0.self_attn.q_proj")
    )
    assert set(norm["channels"][:2]) == {3, 17}  # the two that the fixture made loud
    assert norm["bits"] == 8
    assert json.loads(card.recipe) == json.loads(session.recipe.to_json())


def test_a_change_of_the_recipe_voids_the_card(session) -> None:
    card = ReportCard(session)
    card.make().wait(60)
    session.update(session.recipe.with_alpha(0.25))
    card.follow()
    assert (card.rows, card.layers, card.facts) == ([], [], [])
