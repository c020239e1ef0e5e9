"""`mmbench profile`: what each method costs, under each scenario and part by part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmbench.cli import _options as options
from mmbench.cli._opening import construct_dataset, dataset_keywords
from mmbench.errors import CellFailedError, InvalidRecipeError

if TYPE_CHECKING:
    from mmbench.datasets._dataset import Dataset
    from mmbench.profiling.report import MethodProfile, Settings
    from mmbench.recipe import Recipe

_FORMATS = ("console", "markdown", "latex")


@options.takes_dataset
def profile(
    methods: options.MethodNames,
    dataset: options.DatasetName,
    choice: options.DatasetChoice,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=1,
            help="Height and width, pixels; else the recipe's window. Of a sweep, the largest.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("--batch", help="Batch sizes separated by commas; else 1. Of a sweep, what it takes."),
    ] = None,
    device: options.DeviceName = "auto",
    recipe: options.RecipeName = "default",
    overrides: options.Overrides = None,
    counts_only: Annotated[bool, typer.Option("--counts-only", help="Count, run and time nothing.")] = False,
    warm_up: Annotated[int, typer.Option("--warm-up", min=0, help="Runs before the first timed one.")] = 2,
    repetitions: Annotated[int, typer.Option("--repetitions", min=1, help="Timed forwards.")] = 20,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed training steps.")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to a file.")] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="Write a chrome trace of the full scenario, a file a method."),
    ] = None,
    style: Annotated[str, typer.Option("--format", "-f", help="console, markdown or latex.")] = "console",
    figures: Annotated[Path | None, typer.Option("--figures", help="Draw figures into a folder.")] = None,
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", help="How cost grows with size, batch or modalities, as exponents, instead."),
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option("--ablation", help="Profile every value of this option, as transformer of gemmnet."),
    ] = None,
) -> None:
    """Measure parameters, FLOP, bytes, time and memory by scenario and part, on random images."""
    options.check_choice("--format", style, _FORMATS)
    _check_combination(counts_only, trace, sweep, ablation, batch)
    names, batch_sizes = options.parse_methods(methods), _parse_batch_sizes(batch or "1")
    opened, loaded = _open(choice, recipe, overrides, names, device)
    side = loaded.evaluation.window if size is None else size
    if sweep != "size":
        _check_size(names, side)
    settings = _settings(choice.name, opened, loaded, side, batch_sizes, device, not counts_only)
    if not counts_only:
        settings = settings.model_copy(
            update={"warm_up": warm_up, "repetitions": repetitions, "training_repetitions": steps}
        )
    from mmbench.cli._profile_views import Outputs, ablated, raise_failures, show_report

    outputs = Outputs(style, json_file, trace, figures)
    outputs.check_writable()

    def profile_one(name: str, chosen: Recipe, at: Settings, own_trace: Path | None = None) -> MethodProfile:
        return _profile(name, opened, chosen, at, device, own_trace)

    if sweep is not None:
        from mmbench.cli._profile_sweep import show_sweeps

        given = batch_sizes if sweep == "batch" and batch else None
        show_sweeps(
            sweep, names, settings, lambda name, at: profile_one(name, loaded, at), outputs, given, size
        )
        return
    jobs = [
        (name, chosen, "" if ablation is None else f"{ablation}={chosen.methods[name][ablation]}")
        for name in names
        for chosen in ([loaded] if ablation is None else ablated(loaded, name, ablation))
    ]
    profiles, failures = [], []
    for name, chosen, value in jobs:
        typer.echo(f"profiling {name} {value}".rstrip() + " …", err=True)
        own_trace = outputs.trace_of(name, value, alone=len(jobs) == 1)
        try:
            profiles.append(profile_one(name, chosen, settings, own_trace))
        except CellFailedError as error:
            failures.append(str(error))
    if profiles:
        from mmbench.profiling.report import ProfileReport

        show_report(ProfileReport(settings=settings, methods=tuple(profiles)), outputs, device)
    raise_failures(failures)


def _check_combination(
    counts_only: bool, trace: Path | None, sweep: str | None, ablation: str | None, batch: str | None
) -> None:
    """Refuse options of which one would be ignored."""
    if counts_only and trace is not None:
        raise InvalidRecipeError("--trace and --counts-only were both given; a trace needs a real run")
    if sweep is None:
        return
    if trace is not None:
        raise InvalidRecipeError("--trace and --sweep were both given; trace one case, without --sweep")
    if ablation is not None:
        raise InvalidRecipeError(
            "--ablation and --sweep were both given; sweep one value, as with "
            "--set methods.gemmnet.transformer=off"
        )
    if sweep != "batch" and len(_parse_batch_sizes(batch or "1")) > 1:
        raise InvalidRecipeError(f"--sweep {sweep} with --batch {batch!r}: expected one batch size")


def _parse_batch_sizes(text: str) -> tuple[int, ...]:
    """Return the batch sizes of a comma-separated list."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InvalidRecipeError(
            f"--batch {text!r}: expected whole numbers from 1 separated by commas, as in 1,8"
        )
    return tuple(dict.fromkeys(int(part) for part in parts))


def _open(
    choice: options.DatasetChoice,
    recipe_name: str,
    overrides: list[str] | None,
    names: list[str],
    device: str,
) -> tuple[Dataset, Recipe]:
    """Check every name and option; the dataset's files are not needed, as only its facts are read."""
    from mmbench.registry import entry

    for name in names:
        entry("method", name)
    entry("dataset", choice.name)
    options.check_device_name(device)
    from mmbench.recipe import load_recipe

    loaded = load_recipe(recipe_name, overrides or [])
    # Nothing is trained, so there is no learning rate to search for, and no validation tile is needed for it.
    training = loaded.training.model_copy(update={"search": None})
    loaded = loaded.model_copy(update={"training": training})
    opened = construct_dataset(choice.name, dataset_keywords(choice), choice.root)
    from mmbench.cells import check_options, with_variants

    loaded = with_variants(loaded, names)
    check_options(loaded, names, opened)
    return opened, loaded


def _check_size(names: list[str], side: int) -> None:
    """Refuse a size that a method cannot take."""
    from mmbench.registry import find

    for name in names:
        multiple, minimum = find("method", name).size_multiple, find("method", name).size_minimum
        if side < minimum or side % multiple:
            nearest = max(-(-minimum // multiple) * multiple, -(-side // multiple) * multiple)
            raise InvalidRecipeError(
                f"--size {side}: method {name!r} takes multiples of {multiple} from {minimum}; the next is "
                f"{nearest}"
            )


def _settings(
    dataset_name: str,
    dataset: Dataset,
    recipe: Recipe,
    size: int,
    batch_sizes: tuple[int, ...],
    device: str,
    timed: bool,
) -> Settings:
    """Return how the figures are taken."""
    import torch

    from mmbench.allocator import allocator_setting
    from mmbench.devices import describe_device, resolve_device, resolve_precision
    from mmbench.profiling.report import Settings

    place = resolve_device(device)
    return Settings(
        dataset=dataset_name,
        modalities=dataset.modalities,
        num_classes=dataset.num_classes,
        size=size,
        batch_sizes=batch_sizes,
        device=describe_device(place),
        precision=resolve_precision(place, recipe.training.precision),
        threads=torch.get_num_threads(),
        allocator=allocator_setting(),
        torch=torch.__version__,
        timed=timed,
    )


def _profile(
    name: str, dataset: Dataset, recipe: Recipe, settings: Settings, device: str, trace: Path | None
) -> MethodProfile:
    """Profile one method in a process of its own."""
    from mmbench.allocator import KEPT
    from mmbench.devices import resolve_device
    from mmbench.profiling.worker import Job, profile_in_process
    from mmbench.registry import entry

    job = Job(
        method=name,
        file=entry("method", name).file,
        options=dict(recipe.methods.get(name, {})),
        modalities=settings.modalities,
        num_classes=dataset.num_classes,
        ignore_index=dataset.ignore_index,
        training=recipe.training,
        size=settings.size,
        batch_sizes=settings.batch_sizes,
        device=str(resolve_device(device)),
        precision=settings.precision,
        threads=settings.threads,
        keep_memory=settings.allocator == KEPT,
        timed=settings.timed,
        warm_up=settings.warm_up,
        repetitions=settings.repetitions,
        training_repetitions=settings.training_repetitions,
        trace=trace,
    )
    return profile_in_process(job)
