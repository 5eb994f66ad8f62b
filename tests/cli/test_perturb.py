"""`failsafe evaluate --perturb`: any mode that needs no plan, behind any policy, with rows of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Verb
from tests.evaluation import toy_study

from failsafe.evaluation.results import Results

BASE = ("evaluate", "--policy", toy_study.POLICY, "--tasks", toy_study.PICK, "--seeds", "0:2")
ALONE = ("--monitor", "compact", "--conditions", "never", "--max-steps", "90", "--workers", "1")


def test_a_perturbed_policy_has_rows_of_its_own(tmp_path: Path, run: Verb) -> None:
    out = tmp_path / "results"
    perturbed = ("--perturb", "object_pushed,drift:0.05", "--threshold", "5")
    status, text, err = run(*BASE, *ALONE, *perturbed, "--videos", "0", "--out", str(out), "--json")
    assert status == 0, err
    rows = {row["scenario"] for row in json.loads(text)["summary"]["rows"]}
    assert rows == {"nominal", "object_pushed", "drift:0.05", "perturbed"}
    episodes = {(e.key.scenario, e.key.seed): e for e in Results(out).episodes()}
    for seed in (0, 1):
        assert episodes["nominal", seed].perturbations == ()
        pushed, drift = episodes["object_pushed", seed], episodes["drift:0.05", seed]
        assert [p.mode for p in pushed.perturbations] == ["object_pushed"]
        assert pushed.injection_step is not None
        assert [p.magnitude for p in drift.perturbations] == [0.05]
    assert "object_pushed" in (out / "report.html").read_text()


def test_a_mode_that_needs_a_plan_is_one_sentence(tmp_path: Path, run: Verb) -> None:
    status, _, err = run(*BASE, *ALONE, "--perturb", "translation_x", "--out", str(tmp_path / "results"))
    assert status == 2
    assert "expected a mode that needs no plan, got 'translation_x'" in err
    assert "slip" in err
