"""`failsafe score`: the offline table of a model beside the baselines."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import tyro

from failsafe.cli.output import ProgressReporter, print_json
from failsafe.datasets.files import write_atomically
from failsafe.evaluation.scoring import SCORES, OfflineTest, check_free, distinct_names
from failsafe.evaluation.statistics import RESAMPLES
from failsafe.models.address import read_key
from failsafe.models.contract import RecoveryModel
from failsafe.models.endpoints import API_KEY
from failsafe.models.loading import load_model
from failsafe.records import codec
from failsafe.records.assessment import WindowSpec
from failsafe.reports.scores import format_scores, scores_markdown, write_scores


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

    Every folder of samples is a section of the table; the others are compared with the first. A model that
    was trained on a seed of the split is refused.

    Args:
        checkpoint: Checkpoint file or folder, or "compact" for the shipped model.
        data: Folders of samples.
        out: Folder for the page (scores.html), the tables (scores.md, scores.json) and the answers; one that
            holds the scores of another model is refused.
        split: Split to score.
        train: Folders of samples to fit baselines on. Without them, the rate of direction reversals and the
            return to the nearest nominal state are left out, and the other baselines name no modes.
        also: Further checkpoints for the same table. Models of one kind are named by their paths.
        endpoint: URL of an OpenAI-compatible server that serves the checkpoint; the API key is taken from
            FAILSAFE_API_KEY. If the checkpoint's folder is on this machine, seeds and instructions are
            checked as usual.
        any_instruction: Also score tasks that the model was not trained on.
        limit: Samples of each folder to score, evenly spread; 0 for all.
        resamples: Resamples of the bootstrap over seeds.
        json: Print the table as JSON.
    """
    test = OfflineTest(data, split, limit)
    models = [connect(checkpoint, endpoint, any_instruction, test.spec)]
    models += [load_model(name, any_instruction) for name in also]
    baselines = test.baselines(train)
    sources = (checkpoint, *also, *(model.name for model in baselines))
    names = distinct_names([model.name for model in (*models, *baselines)], sources)
    for name, model in zip(names, models, strict=False):
        test.check(name, model, any_instruction)
    if endpoint:
        test.check_responds(models[0])
    check_free(out, names[0], checkpoint)
    named = dict(zip(names, (*models, *baselines), strict=True))
    total = len(named) * len(test.truth)
    with ProgressReporter("answers", total, quiet=json) as reporter, closing(models[0]):
        table = test.run(named, out, resamples, lambda: reporter.advance(1), checkpoint)
    page = write_scores(table, out / "scores.html")
    write_atomically(out / "scores.md", scores_markdown(table).encode())
    write_atomically(out / SCORES, (codec.dumps(table) + "\n").encode())
    if json:
        print_json({"page": str(page), "table": codec.to_plain(table)})
    else:
        print(format_scores(table))
        print(f"page: {page.resolve()}")
    return 0


def connect(checkpoint: str, endpoint: str, any_instruction: bool, spec: WindowSpec) -> RecoveryModel:
    """Return the model of a checkpoint, in this process or behind a server.

    Args:
        checkpoint: Checkpoint to load. For a server, its name of the model, which is the folder under vLLM;
            if that folder is on this machine, its card is read.
        endpoint: URL of the server, empty for none. The API key is taken from `FAILSAFE_API_KEY`.
        any_instruction: Accept instructions that the model was not trained on.
        spec: Windows of a served model whose card is not on this machine.

    Raises:
        UserError: If the checkpoint, the URL or the key cannot be used.
    """
    if not endpoint:
        return load_model(checkpoint, any_instruction)
    from failsafe.models.llava.card import LlavaCard, read_card
    from failsafe.models.llava.endpoint import EndpointModel

    folder, key = Path(checkpoint), read_key(API_KEY)
    card = read_card(folder) if folder.is_dir() else LlavaCard(spec)
    return EndpointModel(endpoint, checkpoint, card, api_key=key, any_instruction=any_instruction)


@contextmanager
def closing(model: RecoveryModel) -> Generator[None]:
    """Close the model's connections, if it has any, on leaving the block."""
    try:
        yield
    finally:
        getattr(model, "close", lambda: None)()
