"""The `refine-env` command: one small function a subcommand, everything heavy imported inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from experiments import (
    collect_cli,
    evaluate_cli,
    report_cli,
    reproduce_cli,
    sweep_cli,
    view_cli,
)
from experiments.cli_options import (
    Corpus,
    DataDir,
    Env,
    MaxTurns,
    ProtocolName,
    Retriever,
    Reward,
    SkipInvalid,
    Split,
    TopK,
)
from experiments.inputs import InputError, check_agents_package, extra, message_alone

app = typer.Typer(
    help="Question answering with a search engine as an environment, agents in it, their training.",
    epilog="First steps: `refine-env play`, `refine-env demo`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

app.add_typer(evaluate_cli.app)
app.add_typer(view_cli.app)
app.add_typer(collect_cli.app)
app.add_typer(report_cli.app)
app.add_typer(reproduce_cli.app)
app.add_typer(sweep_cli.app)

_LOADING = "Loading torch and TRL ..."  # ten seconds in which nothing else is seen


@app.command("list", epilog="Example: `refine-env list`")
def list_environments() -> None:
    """Show the environments and where their data was found."""
    from experiments import listing

    listing.run()


@app.command(
    epilog="Examples: `refine-env prepare hotpotqa`; `refine-env prepare nq triviaqa "
    "--corpus wiki-18`"
)
def prepare(
    datasets: Annotated[
        list[str] | None, typer.Argument(help="Names such as hotpotqa, nq, popqa.")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Also this corpus: wiki-18, 21 million passages.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask above 1 GB.")] = False,
) -> None:
    """Download datasets and corpora from the Hugging Face hub into the cache."""
    if not datasets and not corpus:
        raise InputError("name a dataset, such as `refine-env prepare hotpotqa`, or a --corpus")
    from experiments import prepare as preparing

    preparing.run(datasets or [], corpus, yes)


@app.command(epilog="Example: `refine-env play --seed 3`, then `s Clara Norwood`")
def play(
    env: Env = "AutoRefine-MiniWiki-v0",
    split: Split = None,
    data_dir: DataDir = None,
    corpus: Corpus = None,
    retriever: Retriever = None,
    top_k: TopK = None,
    max_turns: MaxTurns = None,
    protocol: ProtocolName = None,
    reward: Reward = None,
    seed: Annotated[int | None, typer.Option(help="Which question; random without.")] = None,
    question: Annotated[str | None, typer.Option(help="Id of the question.")] = None,
) -> None:
    """Take the policy's seat: read, search, refine and answer by hand."""
    from experiments import play as playing
    from experiments.inputs import input_errors, make_environment

    options = {
        "split": split,
        "data_dir": data_dir,
        "corpus": corpus,
        "retriever": retriever,
        "top_k": top_k,
        "max_turns": max_turns,
        "protocol": protocol,
        "reward": reward,
    }
    made = make_environment(env, options)
    with input_errors():
        made.reset(seed=seed, options=None if question is None else {"question_id": question})
    playing.run(made)


@app.command(epilog="Example: `refine-env demo --minutes 5`")
def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder for curve, transcripts, logs.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the whole run.")] = 0,
    minutes: Annotated[float, typer.Option(help="Stop training after so long.", min=0.0)] = 5.0,
) -> None:
    """Watch a very small policy learn to search, refine and answer in an invented world."""
    typer.echo(_LOADING)
    with extra("train"):
        from experiments import demo as demonstration

    demonstration.run(output_dir, seed, minutes)


@app.command(
    epilog="Examples: `refine-env train --config demo grpo.steps=20 output=runs/mine`; "
    "`refine-env train --config autorefine-3b --dry-run`"
)
def train(
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key=value.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with settings, or a shipped one: demo, autorefine-3b, autorefine-7b, "
            "search-r1-3b."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show settings, memory and commands; train nothing."),
    ] = False,
) -> None:
    """Train a policy with GRPO."""
    from agents.distributed import is_main
    from experiments.train_config import load_config

    settings = load_config(config, overrides or [])
    if dry_run:
        with extra("train"):
            from experiments import dry_run as preview

        preview.run(config, overrides or [])
        return
    if is_main():
        typer.echo(_LOADING)
    with extra("train"):
        from experiments import train as training

    training.run(settings)


@app.command(
    epilog="Examples: `refine-env audit hotpotqa`; `refine-env audit nq --data-dir data/nq`"
)
def audit(
    env: Annotated[str, typer.Argument(help="Id of an environment, or its dataset's name.")],
    data_dir: DataDir = None,
    corpus: Corpus = None,
    retriever: Annotated[str, typer.Option(help="Search engine; none does not search.")] = "bm25",
    level: Annotated[str | None, typer.Option(help="MiniWiki only: tiny, small, full.")] = None,
    skip_invalid: SkipInvalid = False,
    output: Annotated[
        Path | None, typer.Option(help="JSON file; runs/audit/DATASET.json without.")
    ] = None,
) -> None:
    """Count the questions that can be answered from corpus, evidence and search results."""
    from experiments import audit as auditing

    auditing.run(
        auditing.AuditConfig(
            env=env,
            data_dir=data_dir,
            corpus=corpus,
            retriever=retriever,
            level=level,
            skip_invalid=skip_invalid,
            output=output,
        )
    )


@app.command(
    epilog="Examples: `refine-env serve --corpus corpus.jsonl --port 8000`; `refine-env serve "
    '--env hotpotqa`. Then `retriever="http://127.0.0.1:8000"` in an environment.'
)
def serve(
    retriever: Annotated[str, typer.Option(help="Search engine, such as bm25.")] = "bm25",
    corpus: Corpus = None,
    env: Annotated[str | None, typer.Option(help="Serve the corpus of an environment.")] = None,
    data_dir: DataDir = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
) -> None:
    """Serve a search engine over HTTP, as the /retrieve servers of Search-R1 do."""
    from experiments import serve as serving

    serving.run(retriever, corpus, env, data_dir, host, port)


@app.command(
    epilog="Examples: `refine-env index --corpus corpus.jsonl --output indexes/mine`; `refine-env "
    "index --engine dense --encoder intfloat/e5-base-v2 --corpus wiki-18 --estimate`"
)
def index(
    engine: Annotated[str, typer.Option(help="bm25, lucene or dense.")] = "bm25",
    corpus: Annotated[
        str | None, typer.Option(help="JSONL file with the passages, or wiki-18 when downloaded.")
    ] = None,
    env: Annotated[str | None, typer.Option(help="Index the corpus of an environment.")] = None,
    split: Split = None,
    data_dir: DataDir = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the index, a new one.")] = None,
    k1: Annotated[float | None, typer.Option(help="BM25: 0.9 without.")] = None,
    b: Annotated[float | None, typer.Option(help="BM25: 0.4 without.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="bm25: processes that read; 0 for all cores, 1 without.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="dense: folder or hub name.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="dense: flat, ivf-sq8, hnsw-sq8, ivf-rabitq-refine.")
    ] = None,
    vectors: Annotated[
        str | None, typer.Option(help="dense: a published flat index to take the vectors from.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Any other of the engine's, as name=value.")
    ] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Only say what it takes.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an index.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask above 1 GB.")] = False,
) -> None:
    """Build a search index, after saying what it takes in disk, memory and time."""
    from experiments import index as indexing

    given = (k1, b, workers, encoder, kind, vectors)
    named = dict(zip(("k1", "b", "workers", "encoder", "kind", "vectors"), given, strict=True))
    indexing.run(
        indexing.IndexConfig(
            engine=engine,
            corpus=corpus,
            env=env,
            split=split,
            data_dir=data_dir,
            output=output,
            options=indexing.parse_options(named, option or []),
            estimate=estimate,
            overwrite=overwrite,
            yes=yes,
        )
    )


@app.command(
    epilog="Example: `refine-env recall hotpotqa nq --retriever bm25 --retriever "
    "'hybrid:bm25+dense:indexes/{dataset}'`"
)
def recall(
    datasets: Annotated[
        list[str] | None, typer.Argument(help="Names such as hotpotqa; all seven without.")
    ] = None,
    retriever: Annotated[
        list[str] | None,
        typer.Option(help="Search engine, {dataset} in it filled in; several by repeating it."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder with a folder for every dataset.")
    ] = None,
    output: Annotated[Path, typer.Option(help="JSON file; a table in Markdown beside it.")] = Path(
        "runs/recall/recall.json"
    ),
) -> None:
    """Compare search engines: the share of gold passages, or answers, among their first results."""
    from experiments import recall as recalling

    recalling.run(
        recalling.RecallConfig(
            datasets=tuple(datasets or ()),
            retrievers=tuple(retriever or ["bm25"]),
            data_root=data_root,
            output=output,
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Exits with 2, and a message alone, for what was asked for wrongly."""
    with message_alone():
        check_agents_package()
        app(args=arguments, prog_name="refine-env")


if __name__ == "__main__":
    main()
