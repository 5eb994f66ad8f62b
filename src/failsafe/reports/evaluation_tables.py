"""The tables of an evaluation, and its headline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from failsafe.evaluation.conditions import CONDITIONS, MONITOR, NEVER
from failsafe.evaluation.contrasts import Contrast
from failsafe.evaluation.intervention import STEP_LIMITS
from failsafe.evaluation.paired import ALL_TASKS, NOMINAL, PERTURBED, Change, Pair, Row, Summary
from failsafe.evaluation.scenarios import scenario
from failsafe.reports.evaluation_cells import (
    CHANCE,
    INTERVENTION_HEAD,
    all_cells,
    between,
    contrast_cells,
    curve_cells,
    effect_cells,
    effect_head,
    false_alarm_cell,
    gain_cell,
    harm_cell,
    intervention_cells,
    name_cells,
    number_cell,
    p_cell,
    probability,
    share,
    success_cell,
    survived_cell,
    with_interval,
)
from failsafe.reports.tables import Table, TableCell

ALARMED = {
    Change.RESCUED: "rescued",
    Change.FAILED: "still failed",
    Change.HARMED: "harmed",
    Change.KEPT: "false alarm",
}
"""Outcomes of an episode with an alarm."""
NO_MODE = "none named"


@dataclass(frozen=True)
class Headline:
    """The effect of the monitor on one policy.

    Attributes:
        row: All tasks together, with the monitor.
        figures: The figures at the top of the page, by name.
        description: The same as sentences.
    """

    row: Row
    figures: dict[str, TableCell]
    description: tuple[str, ...]


def headlines(summary: Summary) -> list[Headline]:
    """Return a headline per policy: of all perturbations, else of the nominal scenario, else the first."""
    rows = sorted(
        _whole(summary, MONITOR), key=lambda row: (row.scenario != PERTURBED, row.scenario != NOMINAL)
    )
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row.policy, row)
    return [_headline(row) for row in found.values()]


def cells_table(summary: Summary) -> Table:
    """Return the table of all cells with all figures."""
    head = ("task", "scenario", "policy", "condition", "episodes", "success", "alone", "gain", "p")
    head += ("rescued", "harmed", "harm rate", "false alarms", "alarms, policy survives", *INTERVENTION_HEAD)
    head += ("alarms", "takeovers")
    head += ("first alarm", "delay", "steps", "seconds", "waiting", "no assessment", "asked for help")
    head += ("other endings",)
    rows = tuple((*name_cells(row), *all_cells(row)) for row in summary.rows)
    return Table("All cells", "", head, rows, names=4)


def narrow_tables(summary: Summary) -> list[Table]:
    """Return, for each scenario and policy, three tables that fit a terminal of 100 characters."""
    tables: list[Table] = []
    for (name, policy), rows in _groups(summary).items():
        lines: list[tuple[TableCell, ...]] = []
        before = ""
        for row in rows:
            task = "" if row.task == before else row.task
            before = row.task
            success = TableCell(f"{share(row.rate)} ({between(row.interval)})")
            difference = (
                gain_cell(row),
                p_cell(row),
                TableCell(str(row.rescued)),
                TableCell(str(row.harmed)),
                false_alarm_cell(row),
            )
            empty = (TableCell("–"),) * len(difference)
            rest = empty if row.condition == NEVER else difference
            lines.append(
                (TableCell(task), TableCell(row.condition), TableCell(str(row.episodes)), success, *rest)
            )
        head = ("task", "condition", "of", "success", "gain", "p", "rescued", "harmed", "false alarms")
        tables.append(Table(f"{policy}, scenario {name}", "", head, tuple(lines), names=2))
        tables.extend(_narrow_intervention(policy, name, summary))
    return tables


def _narrow_intervention(policy: str, name: str, summary: Summary) -> tuple[Table, Table]:
    """Return who acts in one scenario with one policy, all tasks together, and success by step limit."""
    rows = [row for row in whole_rows(summary) if (row.policy, row.scenario) == (policy, name)]
    acts = tuple(
        (TableCell(row.condition), *map(with_interval, (*intervention_cells(row), survived_cell(row))))
        for row in rows
    )
    curve = tuple(
        (
            TableCell(row.condition),
            *(
                TableCell(f"{100 * point.successes / row.episodes:.0f}% ({between(point.interval)})")
                for point in row.curve
            ),
        )
        for row in rows
    )
    head = ("condition", *INTERVENTION_HEAD, "alarms, policy survives")
    steps = ("condition", *(f"{limit} steps" for limit in STEP_LIMITS))
    return Table("Who acts", "", head, acts), Table("Success by step limit", "", steps, curve)


def wide_tables(summary: Summary) -> list[Table]:
    """Return a table for each scenario and policy, with a row for each task and condition."""
    tables: list[Table] = []
    for (name, policy), rows in _groups(summary).items():
        late = any(row.onsets for row in rows)  # two more columns
        head = ("task", "condition", "episodes", "success", *effect_head(late), *INTERVENTION_HEAD)
        lines = tuple(
            (
                TableCell(row.task),
                TableCell(row.condition),
                TableCell(str(row.episodes)),
                success_cell(row),
                *effect_cells(row, late),
                *intervention_cells(row),
            )
            for row in rows
        )
        tables.append(Table(f"{policy}, scenario {name}", "", head, lines, names=2))
    return tables


def overview_table(summary: Summary) -> Table | None:
    """Return every scenario, policy and condition, all tasks together; None if there is only one scenario."""
    whole = [row for row in whole_rows(summary) if row.condition != NEVER]
    if len({(row.scenario, row.policy) for row in whole}) < 2:
        return None
    late = any(row.onsets for row in whole)
    rows = tuple(
        (
            TableCell(row.scenario),
            TableCell("perturbation" if row.scenario == PERTURBED else scenario(row.scenario).axis),
            TableCell(row.policy),
            TableCell(row.condition),
            TableCell(str(row.episodes)),
            TableCell(share(row.alone / row.episodes), between(row.alone_interval)),
            success_cell(row),
            *effect_cells(row, late),
            *intervention_cells(row),
        )
        for row in whole
    )
    head = ("scenario", "axis", "policy", "condition", "episodes", "alone", "success")
    return Table("All scenarios", "", (*head, *effect_head(late), *INTERVENTION_HEAD), rows, names=4)


def curve_table(summary: Summary) -> Table:
    """Return the success rate by step limit of every condition, all tasks together."""
    head = ("scenario", "policy", "condition", "episodes", *(f"{limit} steps" for limit in STEP_LIMITS))
    rows = tuple(
        (
            TableCell(row.scenario),
            TableCell(row.policy),
            TableCell(row.condition),
            TableCell(str(row.episodes)),
            *curve_cells(row),
        )
        for row in whole_rows(summary)
    )
    return Table("Success by step limit", "", head, rows, names=3)


def contrast_table(contrasts: Sequence[Contrast]) -> Table | None:
    """Return every policy against the first one, or every condition against the monitor; None without any.

    All tasks together.

    Args:
        contrasts: Contrasts with the first policy, alone and with the monitor; of one policy, with the
            monitor alone.
    """
    if not contrasts:
        return None
    one_policy = {contrast.reference for contrast in contrasts} == {MONITOR}
    references = (MONITOR,) if one_policy else (NEVER, MONITOR)
    found: dict[tuple[str, str, str], dict[str, Contrast]] = {}
    for contrast in contrasts:
        key = contrast.scenario, contrast.policy, contrast.condition
        found.setdefault(key, {})[contrast.reference] = contrast
    rows: list[tuple[TableCell, ...]] = []
    for key, by_reference in found.items():
        one = next(iter(by_reference.values()))
        success = TableCell(share(one.successes / one.episodes), between(one.interval))
        cells = [cell for name in references for cell in contrast_cells(by_reference.get(name))]
        rows.append((*map(TableCell, key), TableCell(str(one.episodes)), success, *cells))
    head = ("scenario", "policy", "condition", "episodes", "success")
    if one_policy:
        head += ("gain on the monitor", "p", "pairs that differ")
        return Table("Conditions compared with the monitor", "", head, tuple(rows), names=3)
    head += tuple(
        name
        for reference in ("alone", "with the monitor")
        for name in (f"gain on the first policy {reference}", "p", "pairs that differ")
    )
    hint = f"The first policy: {contrasts[0].base}."
    return Table("Policies compared with the first one", hint, head, tuple(rows), names=3)


def effort_table(summary: Summary) -> Table:
    """Return what each condition did and what it cost, all tasks together; per episode unless stated."""
    head = (
        "scenario",
        "policy",
        "condition",
        "alarms",
        "takeovers",
        "first alarm at step",
        "steps",
        "seconds",
    )
    head += ("waiting", "no assessment", "asked for help")
    rows: list[tuple[TableCell, ...]] = []
    for row in whole_rows(summary):
        alone = row.condition == NEVER
        did = (
            number_cell(None if alone else row.alarms, ".2f"),
            number_cell(None if alone else row.take_overs, ".2f"),
            number_cell(row.first_alarm, ".0f"),
            number_cell(row.steps, ".0f"),
            number_cell(row.seconds, ".1f"),
            TableCell("–" if alone else share(row.overhead)),
            number_cell(None if alone else row.faults, ".2f"),
            TableCell("–" if alone else f"{row.asked_for_help} of {row.episodes}"),
        )
        rows.append((TableCell(row.scenario), TableCell(row.policy), TableCell(row.condition), *did))
    return Table("What it took", "", head, tuple(rows), names=3)


def confusion_table(pairs: Sequence[Pair]) -> Table:
    """Return the mode named at the first alarm against the outcome; descriptions are shares of rows."""
    counts: Counter[tuple[str, Change]] = Counter()
    for pair in pairs:
        if alarm := pair.first_alarm:
            counts[alarm.mode.replace("_", " ") or NO_MODE, pair.change] += 1
    totals: Counter[str] = Counter()
    for (mode, _), number in counts.items():
        totals[mode] += number
    rows: list[tuple[TableCell, ...]] = []
    for mode, total in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        cells = [
            TableCell(
                str(number) if (number := counts[mode, change]) else "",
                tone="right" if change is Change.RESCUED else "",
                description=f"{number / total:.3f}" if number else "",
            )
            for change in ALARMED
        ]
        rows.append((TableCell(mode), *cells))
    return Table("", "", ("mode named", *ALARMED.values()), tuple(rows))


def _whole(summary: Summary, condition: str) -> list[Row]:
    """Return, for each scenario and policy, the row of all tasks, or of the only one."""
    rows: dict[tuple[str, str], Row] = {}
    for row in summary.rows:
        if row.condition == condition and (row.task == ALL_TASKS or (row.scenario, row.policy) not in rows):
            rows[row.scenario, row.policy] = row
    return list(rows.values())


def whole_rows(summary: Summary) -> list[Row]:
    """Return the rows of all tasks together, or of the only one: scenario, policy, condition."""
    conditions = CONDITIONS.in_order({row.condition for row in summary.rows})
    rows = [row for condition in conditions for row in _whole(summary, condition)]
    return sorted(
        rows, key=lambda row: (row.scenario != NOMINAL, row.scenario == PERTURBED, row.scenario, row.policy)
    )


def _headline(row: Row) -> Headline:
    alone = TableCell(share(row.alone / row.episodes), between(row.alone_interval))
    figures = {
        "success alone": alone,
        "with the monitor": success_cell(row),
        "gain, points": gain_cell(row),
        f"{_test(row)} p": p_cell(row),
        "harm rate": harm_cell(row),
        "false alarms": false_alarm_cell(row),
        "the monitor acts": intervention_cells(row)[0],
        "rescued, ends under policy": intervention_cells(row)[2],
    }
    return Headline(row, figures, (_difference(row), _care(row), _part(row)))


def _difference(row: Row) -> str:
    states = "pairs" if row.scenario == PERTURBED else "initial states"
    pairs = (
        f"of {row.episodes} {states} {row.rescued} fail alone and succeed with the monitor, "
        f"{row.harmed} succeed alone and fail with it (exact {_test(row)} p {_equals(row.p)})"
    )
    if row.p >= CHANCE:
        return f"No difference beyond chance: {pairs}."
    better = "More" if row.gain > 0 else "Fewer"
    return f"{better} episodes succeed with the monitor: {pairs}."


def _test(row: Row) -> str:
    """Return the name of the test behind the p-value of a row."""
    return "sign-flip" if row.scenario == PERTURBED else "McNemar"


def _care(row: Row) -> str:
    if not row.alone:
        return "The policy alone never succeeds, so nothing can be said of harm and of false alarms."
    broken = f"{row.harmed} fail with the monitor ({share(row.harm_rate)}, {between(row.harm_interval)})"
    if row.false_alarm_rate is None:
        return f"Of the {row.alone} episodes in which the policy alone succeeds {broken}."
    alarm = f"in {share(row.false_alarm_rate)} ({between(row.false_alarm_interval)}) there is an alarm"
    return f"Of the {row.alone} episodes in which the policy alone succeeds {broken}; {alarm}."


def _part(row: Row) -> str:
    part = row.intervention
    acts = f"The monitor acts in {share(part.share)} of all control steps"
    if not row.rescued:
        return f"{acts}."
    return (
        f"{acts}, and in {share(part.rescued_share)} ({between(part.rescued_interval)}) of those of rescued "
        f"episodes; {part.policy_ends} of {part.rescued} rescued episodes end under the base policy "
        f"({between(part.policy_ends_interval)})."
    )


def _equals(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"


def _groups(summary: Summary) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in summary.rows:
        groups.setdefault((row.scenario, row.policy), []).append(row)
    return groups
