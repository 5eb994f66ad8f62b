"""Score recovery models offline: check that the comparison is fair, query the models, make the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from failsafe.datasets.files import file_name
from failsafe.errors import RecordError, UserError
from failsafe.evaluation.offline import ModelScore, ScoreTable, score
from failsafe.evaluation.predictions import Prediction, ask, write_predictions
from failsafe.evaluation.statistics import RESAMPLES
from failsafe.models.baselines import fit_baselines
from failsafe.models.contract import (
    RecoveryModel,
    assess_safely,
    check_objects,
    known_instructions,
    trained_on,
)
from failsafe.records import codec
from failsafe.records.assessment import Status, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA, EmbodimentSpec
from failsafe.records.provenance import collect_provenance, command_line
from failsafe.samples.robots import common_robot
from failsafe.samples.sample import Sample
from failsafe.samples.sample_set import SampleSet

SCORES = "scores.json"
"""File of the table in its folder."""


class OfflineTest:
    """Samples that models are scored on: one or more sets with the same windows, and a split of them.

    Args:
        folders: Folders of samples, with different names. The first set is what others are compared with.
        split: Split to score.
        limit: Samples of each set to score, evenly spread; 0 for all.

    Raises:
        UserError: If there are no folders, two have the same name, or a set has no samples in the split.
    """

    def __init__(self, folders: Sequence[Path], split: str = "test", limit: int = 0) -> None:
        if not folders:
            raise UserError("expected at least one folder made by `failsafe samples`, got none")
        self.folders, self.split = tuple(folders), split
        self.sets = {folder.name: SampleSet(folder) for folder in folders}
        if len(self.sets) < len(folders):
            raise UserError("expected folders of samples with different names, got one twice")
        self.rows = {name: _spread(_rows(found, split, name), limit) for name, found in self.sets.items()}

    @property
    def spec(self) -> WindowSpec:
        """The windows of the first set."""
        return next(iter(self.sets.values())).spec

    @property
    def truth(self) -> list[Sample]:
        """All samples to score."""
        return [found.samples[i] for name, found in self.sets.items() for i in self.rows[name]]

    @property
    def robots(self) -> dict[str, EmbodimentSpec]:
        """The robot of each task, without those of sample sets of version 1, which do not state it."""
        return {task: robot for found in self.sets.values() for task, robot in found.robots.items()}

    def check(self, name: str, model: RecoveryModel, any_instruction: bool = False) -> None:
        """Refuse a model that cannot read the windows, or that was trained on a seed of the split.

        Args:
            name: Name of the model in the table.
            model: The model.
            any_instruction: Accept instructions that the model was not trained on.

        Raises:
            UserError: If the windows or an instruction do not fit the model.
            RecordError: If the model was trained on a seed of the split.
        """
        known = known_instructions(model)
        for set_name, found in self.sets.items():
            samples = [found.samples[i] for i in self.rows[set_name]]
            if found.spec != model.window_spec:
                raise UserError(
                    f"'{set_name}' has windows of {_describe(found.spec)}, but {name} reads "
                    f"{_describe(model.window_spec)}: make the samples again with those settings"
                )
            new = sorted({sample.instruction for sample in samples} - set(known))
            if known and new and not any_instruction:
                raise UserError(
                    f"{name} was not trained on '{new[0]}', which is in '{set_name}': allow any instruction "
                    "to score it all the same"
                )
            for task, objects in found.objects_by_task.items():
                check_objects(model, task, objects)
            for sample in samples:
                if sample.seed in trained_on(model, sample.task):
                    raise RecordError(
                        f"{name} was trained on seed {sample.seed} of {sample.task}, which is among the test "
                        f"samples in '{set_name}'"
                    )

    def check_responds(self, model: RecoveryModel) -> None:
        """Query a served model once, before it is queried thousands of times.

        Raises:
            UserError: If the server gives no answer, with the reason.
        """
        name, found = next(iter(self.sets.items()))
        assessment = assess_safely(model, found.window(self.rows[name][0]))
        if assessment.status is Status.REFUSED:
            raise UserError(
                f"expected a server that answers, got none for the first sample: {assessment.reason}"
            )

    def baselines(self, train: Sequence[Path]) -> list[RecoveryModel]:
        """Return the baselines; those that learn from data only if there is training data.

        Args:
            train: Folders of samples with a split "train".

        Raises:
            UserError: If the folders hold no training samples, or windows of another history, or if there are
                robots with different control rates or step limits.
            RecordError: If a baseline would be fitted on a seed that it is tested on.
        """
        if not train:
            return list(fit_baselines((), (), self.spec, self.truth, self._common_robot({})))
        seen = SampleSet(*train)
        chosen = [*seen.indices("train"), *seen.indices("train", images=False)]
        samples = [seen.samples[i] for i in chosen]
        if not samples:
            raise UserError(f"expected training samples of the split train, got none in {train[0]}")
        if seen.spec.history != self.spec.history:
            raise UserError(
                f"expected training samples with a history of {self.spec.history} steps, as the test samples "
                f"have, got {seen.spec.history}"
            )
        if both := {(s.task, s.seed) for s in samples} & {(s.task, s.seed) for s in self.truth}:
            task, seed = min(both)
            raise RecordError(
                "expected training samples with other seeds than the test samples, got seed "
                f"{seed} of {task} in both"
            )
        windows = (seen.window(i, images=False) for i in chosen)
        return list(fit_baselines(samples, windows, self.spec, self.truth, self._common_robot(seen.robots)))

    def _common_robot(self, others: Mapping[str, EmbodimentSpec]) -> EmbodimentSpec:
        """Return the robot of these samples and of others; ManiSkill's Panda where none is stated."""
        robots = {**self.robots, **others}
        return common_robot(robots) if robots else MANISKILL_PANDA

    def run(
        self,
        models: Mapping[str, RecoveryModel],
        out: Path,
        resamples: int = RESAMPLES,
        on_answer: Callable[[], None] = lambda: None,
        checkpoint: str = "",
    ) -> ScoreTable:
        """Query every model about every sample, store the answers, and compute the table.

        Args:
            models: Models by their name in the table.
            out: Folder for the answers, `answers/MODEL-SET.jsonl`.
            resamples: Resamples of the bootstrap over seeds.
            on_answer: Called after each answer.
            checkpoint: What the first model was loaded from.

        Raises:
            UserError: If the answers of two models would go into one file.
            StoreError: If the answers cannot be written.
        """
        check_file_names(models)
        scores: list[ModelScore] = []
        for name, model in models.items():
            predictions: dict[str, Sequence[Prediction]] = {}
            for set_name, found in self.sets.items():
                predictions[set_name] = ask(model, found, self.rows[set_name], on_answer)
                file = out / "answers" / f"{file_name(name)}-{set_name}.jsonl"
                write_predictions(file, predictions[set_name])
            scores.append(score(name, predictions, resamples, self.robots))
        return ScoreTable(
            scores=tuple(scores),
            split=self.split,
            resamples=resamples,
            command=command_line(),
            sources={f.name: self.sets[f.name].manifests[0].command(f) for f in self.folders},
            provenance=collect_provenance(),
            checkpoint=checkpoint,
        )


def distinct_names(names: Sequence[str], checkpoints: Sequence[str]) -> list[str]:
    """Return the names of models in a table: models with the same name are called by their checkpoints.

    Args:
        names: `RecoveryModel.name` of each model.
        checkpoints: What each model was loaded from.

    Raises:
        UserError: If a checkpoint was given twice.
    """
    chosen = [
        name if names.count(name) == 1 else checkpoint
        for name, checkpoint in zip(names, checkpoints, strict=True)
    ]
    if twice := [name for i, name in enumerate(chosen) if name in chosen[:i]]:
        raise UserError(f"expected checkpoints with different names, got '{twice[0]}' twice")
    return chosen


def check_free(out: Path, model: str, checkpoint: str) -> None:
    """Check that a folder holds no scores of another model.

    Args:
        out: The folder.
        model: Name of the model that is to be scored.
        checkpoint: What it was loaded from.

    Raises:
        UserError: If there are scores of another model, or of the same name and another checkpoint.
    """
    path = out / SCORES
    if not path.exists():
        return
    before = codec.read(ScoreTable, path, within=out)
    if before.scores[0].model != model or before.checkpoint not in ("", checkpoint):
        raise UserError(
            f"{path} holds the scores of {before.checkpoint or before.scores[0].model}, which would be "
            "overwritten: choose another folder with --out"
        )


def check_file_names(names: Mapping[str, object] | Sequence[str]) -> None:
    """Check that the answers of different models go into different files.

    Raises:
        UserError: If two names give the same file name.
    """
    files: dict[str, str] = {}
    for name in names:
        if other := files.get(file_name(name)):
            raise UserError(
                f"expected checkpoints with different names, in letters or digits, got '{other}' and '{name}'"
            )
        files[file_name(name)] = name


def _rows(found: SampleSet, split: str, name: str) -> list[int]:
    if rows := found.indices(split):
        return rows
    if found.indices(split, images=False):
        raise UserError(f"expected samples with images, got '{name}', which was made without them")
    raise UserError(f"expected samples of the split {split} in '{name}', got none")


def _describe(spec: WindowSpec) -> str:
    return f"{', '.join(spec.views)} at {spec.size} px, {spec.frames} frames of {spec.history} steps"


def _spread(rows: list[int], limit: int) -> list[int]:
    if not limit or len(rows) <= limit:
        return rows
    return [rows[i * len(rows) // limit] for i in range(limit)]
