"""`failsafe score`: the offline table of a model beside the baselines."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tyro

from failsafe.cli.output import ProgressReporter, print_json
from failsafe.datasets.files import file_name
from failsafe.errors import RecordError, UserError
from failsafe.evaluation.offline import ModelScore, ScoreTable
from failsafe.evaluation.offline import score as score_answers
from failsafe.evaluation.predictions import Prediction, ask, write_predictions
from failsafe.evaluation.statistics import RESAMPLES
from failsafe.models.baselines import fit_baselines
from failsafe.models.contract import RecoveryModel, assess_safely, trained_on
from failsafe.models.loading import load_model
from failsafe.records import codec
from failsafe.records.assessment import Status, WindowSpec
from failsafe.records.provenance import collect_provenance, command_line
from failsafe.reports.scores import format_scores, scores_markdown, write_scores
from failsafe.samples.sample import Sample
from failsafe.samples.sample_set import SampleSet


def score(
    checkpoint: tyro.conf.Positional[str],
    data: tyro.conf.Positional[tuple[Path, ...]],
    /,
    out: Path = Path("scores"),
    split: str = "test",
    train: tuple[Path, ...] = (),
    also: tuple[str, ...] = (),
    endpoint: str = "",
    any_instruction: bool = False,
    limit: int = 0,
    resamples: int = RESAMPLES,
    json: bool = False,
) -> int:
    """Score a model offline on held-out samples, beside the baselines.

    Every folder of samples is a section of the table; the first is what the others are compared with. A model
    that was trained on a seed of the split is refused.

    Args:
        checkpoint: Checkpoint file or folder, or "compact" for the one that ships.
        data: Folders of samples.
        out: Folder for the page (scores.html), the tables (scores.md, scores.json) and the answers.
        split: The split to score.
        train: Folders of samples that baselines are fitted on; without, the rate of direction reversals and
            the return to the nearest nominal moment are left out, and the others name no kinds of their own.
        also: Further checkpoints for the same table; those of one kind are called by their paths there.
        endpoint: Address of an OpenAI-compatible server that serves the checkpoint; a key for it is
            taken from FAILSAFE_API_KEY. With the folder here, seeds and instructions are checked as ever.
        any_instruction: Score a task that the model was not trained on, too.
        limit: Score so many samples of each folder, evenly spread; 0 for all.
        resamples: Resamples of the bootstrap over seeds.
        json: Print the table as JSON.
    """
    if not data:
        raise UserError("expected at least one folder made by `failsafe samples`, got none")
    sets = {folder.name: SampleSet(folder) for folder in data}
    if len(sets) < len(data):
        raise UserError("expected folders of samples with different names, got one twice")
    rows = {name: _spread(_rows(found, split, name), limit) for name, found in sets.items()}
    spec = next(iter(sets.values())).spec
    models: list[RecoveryModel] = [connect(checkpoint, endpoint, any_instruction, spec)]
    models += [load_model(name, any_instruction) for name in also]
    names = _tell_apart([model.name for model in models], (checkpoint, *also))
    for called, model in zip(names, models, strict=True):
        _check_windows(called, model, sets, rows, any_instruction)
        _check_seeds(called, model, sets, rows)
    if endpoint:
        name, found = next(iter(sets.items()))
        _check_endpoint(models[0], found, rows[name][0])
    baselines = _baselines(
        train, spec, [found.samples[i] for name, found in sets.items() for i in rows[name]]
    )
    models += baselines
    names += [model.name for model in baselines]
    scores: list[ModelScore] = []
    total = len(models) * sum(map(len, rows.values()))
    with ProgressReporter("answers", total, quiet=json) as reporter, closing(models[0]):
        for called, model in zip(names, models, strict=True):
            predictions: dict[str, Sequence[Prediction]] = {}
            for name, found in sets.items():
                predictions[name] = ask(model, found, rows[name], lambda: reporter.advance(1))
                write_predictions(out / "answers" / f"{file_name(called)}-{name}.jsonl", predictions[name])
            scores.append(score_answers(called, predictions, resamples))
    table = ScoreTable(
        scores=tuple(scores),
        split=split,
        resamples=resamples,
        command=command_line(),
        sources={folder.name: sets[folder.name].manifests[0].command(folder) for folder in data},
        provenance=collect_provenance(),
    )
    page = write_scores(table, out / "scores.html")
    (out / "scores.md").write_text(scores_markdown(table))
    (out / "scores.json").write_text(codec.dumps(table) + "\n")
    if json:
        print_json({"page": str(page), "table": codec.to_plain(table)})
    else:
        print(format_scores(table))
        print(f"page: {page.resolve()}")
    return 0


def connect(checkpoint: str, endpoint: str, any_instruction: bool, spec: WindowSpec) -> RecoveryModel:
    """The model of a checkpoint, in this process or behind a server.

    Args:
        checkpoint: What to load; of a server what it calls its model, which vLLM does by the folder. Where
            that is a folder here, its card is read.
        endpoint: Address of the server, empty for none. A key for it is taken from `FAILSAFE_API_KEY`.
        any_instruction: Let it assess instructions that it was not trained on.
        spec: The windows to show to a server's model of which no card is here.
    """
    if not endpoint:
        return load_model(checkpoint, any_instruction)
    from failsafe.models.llava.card import LlavaCard, read_card
    from failsafe.models.llava.endpoint import EndpointModel

    folder, key = Path(checkpoint), os.environ.get("FAILSAFE_API_KEY", "")
    card = read_card(folder) if folder.is_dir() else LlavaCard(spec)
    if not key.isascii():
        raise UserError("expected FAILSAFE_API_KEY to be ASCII, got other characters in it")
    return EndpointModel(endpoint, checkpoint.rstrip("/"), card, api_key=key, any_instruction=any_instruction)


@contextmanager
def closing(model: RecoveryModel) -> Generator[None]:
    """Close the connections of a model that keeps some open, whatever happens."""
    try:
        yield
    finally:
        getattr(model, "close", lambda: None)()


def _baselines(train: Sequence[Path], spec: WindowSpec, truth: Sequence[Sample]) -> Sequence[RecoveryModel]:
    """The baselines; of those that learn, only with something to learn from.

    Raises:
        UserError: If there is nothing to learn from in `train`, or it has windows of another history.
        RecordError: If they would learn from a seed that they are tested on.
    """
    if not train:
        return fit_baselines((), (), spec, truth)
    seen = SampleSet(*train)
    chosen = [*seen.indices("train"), *seen.indices("train", images=False)]
    samples = [seen.samples[i] for i in chosen]
    if not samples:
        raise UserError(f"expected --train with samples of the split train, got none in {train[0]}")
    if seen.spec.history != spec.history:
        raise UserError(
            f"expected --train with a history of {spec.history} steps as what is scored has, got "
            f"{seen.spec.history}"
        )
    if both := {(s.task, s.seed) for s in samples} & {(s.task, s.seed) for s in truth}:
        task, seed = min(both)
        raise RecordError(
            f"expected --train with other seeds than those that are scored, got seed {seed} of {task} in both"
        )
    return fit_baselines(samples, (seen.window(i, images=False) for i in chosen), spec, truth)


def _tell_apart(names: Sequence[str], checkpoints: Sequence[str]) -> list[str]:
    """What models are called in the table: where two of a kind are compared, each by its checkpoint.

    Raises:
        UserError: If one checkpoint was given twice, or the answers of two would get one file's name.
    """
    called = [
        name if names.count(name) == 1 else checkpoint
        for name, checkpoint in zip(names, checkpoints, strict=True)
    ]
    files: dict[str, str] = {}
    for name in called:
        if other := files.get(file_name(name)):
            raise UserError(
                f"expected checkpoints with different names, in letters or digits, got '{other}' and '{name}'"
            )
        files[file_name(name)] = name
    return called


def _check_windows(
    called: str,
    model: RecoveryModel,
    sets: dict[str, SampleSet],
    rows: dict[str, list[int]],
    any_instruction: bool,
) -> None:
    """Refuse samples that a model cannot look at: a table of refusals would tell nobody anything.

    Raises:
        UserError: If the windows are of another kind, or an instruction is not one that it was trained on.
    """
    config = getattr(getattr(model, "meta", None), "config", getattr(model, "meta", None))
    known: Sequence[str] = getattr(config, "instructions", ())
    for name, found in sets.items():
        if found.spec != model.window_spec:
            raise UserError(
                f"'{name}' has windows of {_words_of(found.spec)}, but {called} looks at "
                f"{_words_of(model.window_spec)}: make the samples again with those"
            )
        new = sorted({found.samples[i].instruction for i in rows[name]} - set(known))
        if known and new and not any_instruction:
            raise UserError(
                f"{called} was not trained on '{new[0]}', which is in '{name}': --any-instruction scores "
                "it all the same"
            )


def _rows(found: SampleSet, split: str, name: str) -> list[int]:
    """The samples of a split.

    Raises:
        UserError: If there are none.
    """
    if rows := found.indices(split):
        return rows
    if found.indices(split, images=False):
        raise UserError(f"expected samples with pictures, got '{name}', which was made with --no-images")
    raise UserError(f"expected samples of the split {split} in '{name}', got none")


def _check_endpoint(model: RecoveryModel, found: SampleSet, row: int) -> None:
    """Ask a server once, before it is asked thousands of times.

    Raises:
        UserError: If it gives no answer, with the reason.
    """
    verdict = assess_safely(model, found.window(row))
    if verdict.status is Status.REFUSED:
        raise UserError(f"expected a server that answers, got none for the first sample: {verdict.reason}")


def _words_of(spec: WindowSpec) -> str:
    return f"{', '.join(spec.views)} at {spec.size} px, {spec.frames} frames of {spec.history} steps"


def _spread(rows: list[int], limit: int) -> list[int]:
    if not limit or len(rows) <= limit:
        return rows
    return [rows[i * len(rows) // limit] for i in range(limit)]


def _check_seeds(
    called: str, model: RecoveryModel, sets: dict[str, SampleSet], rows: dict[str, list[int]]
) -> None:
    """Refuse to score a model on what it was trained on.

    Raises:
        RecordError: Naming the first such seed.
    """
    for name, found in sets.items():
        for i in rows[name]:
            sample = found.samples[i]
            if sample.seed in trained_on(model, sample.task):
                raise RecordError(
                    f"{called} was trained on seed {sample.seed} of {sample.task}, which is among what "
                    f"it would be tested on in '{name}'"
                )
