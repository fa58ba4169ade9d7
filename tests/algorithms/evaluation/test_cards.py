from algorithms.evaluation.pages.cards import GROUPS, cards
from tests.algorithms.evaluation.evaluation_toys import cells, evaluation


def test_cards_come_by_mechanism_gains_before_random_ones_and_losses_last():
    found = cards(cells(), evaluation())
    order = [(card.group == "largest loss", card.mechanism, GROUPS.index(card.group)) for card in found]
    assert order == sorted(order) and {card.group for card in found} >= {"largest gain", "random"}


def test_a_card_tells_gain_totals_and_what_is_far_off():
    stored = cells()
    shown = next(context for context in stored.shown if "largest gain" in context.groups)
    i = shown.context
    stored.values["base"]["moa"][i][0] = -100.0
    stored.values["base"]["total"][i][0], stored.values["rl"]["total"][i][0] = -3.25, 1.5
    card = next(card for card in cards(stored, evaluation()) if card.pictures[1].picture == shown.pictures["base"])
    assert (card.mechanism, card.compound, card.gain) == (stored.classes[i], stored.compounds[i], "gain +4.75")
    control, base, rl, real = card.pictures
    assert [picture.row for picture in card.pictures] == ["control", "base", "rl", "real"]
    assert (control.total, base.total, rl.total) == ("", "−3.25", "1.50") and "MoA" in base.far_off
    assert base.text.startswith(f"base, {card.compound}; total −3.25; MoA far off") and control.far_off == []
    table = dict(card.rewards)
    assert table["total"][:2] == [("−3.25", False), ("1.50", False)]
    assert table["MoA"][0] == ("−100.00", True) and table["MoA"][2][1] == ("MoA" in real.far_off)


def test_of_several_trained_rows_the_gain_says_whose_it_is():
    found, stored = evaluation(), cells(rows=("base", "rl", "awm", "real"))
    found["paired"]["awm-base"], found["rows"]["awm"] = found["paired"]["rl-base"], found["rows"]["rl"]
    assert {card.gain.partition("gain")[0] for card in cards(stored, found)} == {"rl "}


def test_an_undefined_total_has_no_gain():
    stored = cells()
    for context in stored.shown:
        stored.values["rl"]["total"][context.context][0] = None
    assert {card.gain for card in cards(stored, evaluation())} == {""}
