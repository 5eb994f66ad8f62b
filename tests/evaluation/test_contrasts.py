"""Policies against each other, counted by hand."""

from __future__ import annotations

from failsafe.evaluation.contrasts import compare_policies, compare_studies
from failsafe.evaluation.statistics import mcnemar
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.reports.evaluation_tables import contrast_table


def made(seed: int, success: bool, policy: str, condition: str, scenario: str = "nominal") -> Episode:
    key = EpisodeKey("Pick", scenario, policy, condition, seed)
    return Episode(key, "pick", Ending.SUCCESS if success else Ending.FAILURE, 100, 5.0, 0.1, 0.0, ())


def cell(outcomes: str, policy: str, condition: str, scenario: str = "nominal") -> list[Episode]:
    return [made(seed, mark == "1", policy, condition, scenario) for seed, mark in enumerate(outcomes)]


EPISODES = [
    *cell("11000000", "base", "never"),
    *cell("11110000", "base", "monitor"),
    *cell("01111110", "tuned", "never"),
    *cell("1111111", "tuned", "monitor"),  # one state has not been run
]


def test_every_policy_is_compared_with_the_first_alone_and_with_the_monitor() -> None:
    found = {(c.policy, c.condition, c.reference): c for c in compare_policies(EPISODES, ("base", "tuned"))}
    assert list(found) == [
        ("base", "never", "monitor"),
        ("base", "monitor", "never"),
        *(
            ("tuned", condition, reference)
            for condition in ("never", "monitor")
            for reference in ("never", "monitor")
        ),
    ]
    alone = found["tuned", "never", "never"]
    assert (alone.episodes, alone.successes, alone.better, alone.worse) == (8, 6, 5, 1)
    assert alone.gain == 0.5
    assert alone.p == mcnemar(5, 1)
    against = found["tuned", "never", "monitor"]
    assert (against.better, against.worse, against.gain) == (3, 1, 0.25)
    assert found["tuned", "monitor", "never"].episodes == 7


def test_the_conditions_of_one_policy_are_compared_with_the_monitor() -> None:
    alone = [*cell("11000000", "base", "never"), *cell("11110000", "base", "monitor")]
    assert compare_policies(alone, ("base",)) == ()
    (found,) = compare_policies([*alone, *cell("01111110", "base", "assist")], ("base",))
    assert (found.condition, found.reference) == ("assist", "monitor")
    assert (found.better, found.worse, found.gain, found.p) == (3, 1, 0.25, mcnemar(3, 1))
    table = contrast_table((found,))
    assert table is not None
    assert table.title == "Conditions compared with the monitor"
    assert [cell.text for cell in table.rows[0][2:]][:3] == ["assist", "8", "75.0%"]
    assert [cell.text for cell in table.rows[0]][5:] == ["+25.0", "0.62", "3 better, 1 worse"]
    assert len(table.rows[0]) == len(table.head)


def test_two_studies_are_compared_on_the_states_that_they_share() -> None:
    other = [*cell("0000", "base", "never"), *cell("1000", "base", "monitor")]
    found = compare_studies(cell("11100", "base", "monitor"), other, "base")
    assert [(c.condition, c.reference, c.episodes, c.better) for c in found] == [
        ("monitor", "never", 4, 3),
        ("monitor", "monitor", 4, 2),
    ]
    assert compare_studies(cell("1", "base", "monitor", "noise"), other, "base") == ()


def test_a_state_counts_once_over_all_perturbations() -> None:
    episodes = [
        episode
        for name in ("object_dropped", "object_pushed")
        for policy, outcomes in (("base", "0000"), ("tuned", "1110"))
        for episode in cell(outcomes, policy, "never", name)
    ]
    whole = compare_policies(episodes, ("base", "tuned"))[-1]
    assert (whole.scenario, whole.episodes, whole.better) == ("perturbed", 8, 6)
    assert whole.p == mcnemar(3, 0), "three states that differ, not six"


def test_the_table_has_both_references_in_a_row() -> None:
    table = contrast_table(compare_policies(EPISODES, ("base", "tuned")))
    assert table is not None
    assert "base" in table.hint
    rows = {(row[1].text, row[2].text): [cell.text for cell in row[4:]] for row in table.rows}
    assert rows["tuned", "never"][1] == "+50.0"
    assert rows["tuned", "never"][3:5] == ["5 better, 1 worse", "+25.0"]
    assert rows["base", "never"][1:4] == ["–"] * 3
    assert contrast_table(()) is None
