"""From what is asked of `train` to the plan of a study: what is not said follows from the task and the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.paths import expanded
from laurel_cli.proxy import defaults
from laurel_cli.settings import read
from laurel_cli.settings.train import TrainSettings
from laurel_cli.study import executors
from laurel_cli.study.plan import StudyPlan


def plan_of(
    asked: TrainSettings, *, command: str, versions: Mapping[str, str | None], elsewhere: bool = False
) -> StudyPlan:
    """The plan of a study.

    Args:
        asked: the settings.
        command: the command line or call, for the records; `versions` of what is installed.
        elsewhere: the study is trained on other machines, which have the device that is named.

    Raises:
        UsageError: settings that contradict each other, or say nothing to the task.
        RecordError: data that are asked how many they are (`epochs`), or weights, a teacher's too, that cannot be read.
        ResourceError: the device is absent.
    """
    asked.bring()
    executor = read.one_of("executor", asked.executor, executors.KINDS)
    far = executors.executor_of(executor).ELSEWHERE
    if asked.steps is not None and asked.epochs is not None:
        raise UsageError("`steps` and `epochs` say the same thing.", hint="Leave one of them out.")
    if asked.lr_search == 1:
        raise UsageError("`lr_search` needs two rates at least.", hint="Try `lr_search=3`.")
    if asked.model is not None and not isinstance(asked.model, str):
        raise TypeError(
            "train builds the model anew for every seed, so it takes a reference, not a module: "
            "put the function that builds it into a file, and name it FILE.py:FACTORY."
        )
    from laurel_cli.devices import family, is_host, kind_of, resolve
    from laurel_cli.latency.workload import Workload
    from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
    from laurel_cli.tasks import is_text

    model = asked.model
    task = asked.task or (defaults.TASK if model is None else defaults.MODELS_TASK)
    kind = "text" if is_text(task) else "image"
    _of_images(asked, task, kind)
    budget: dict[str, Any] = defaults.BUDGETS[kind] | ({} if model is None else {"lr": defaults.MODELS_LR})
    budget |= {"lr": defaults.SGD["lr"]} if asked.optimizer == "sgd" else {}
    usual = defaults.SGD["weight_decay"] if asked.optimizer == "sgd" else defaults.WEIGHT_DECAY
    batch = asked.batch or budget["batch"]
    place = resolve(asked.device, asked.on_note, elsewhere=elsewhere or far)
    if far and place != family(place):
        what = f"`device={place!r}` and `executor={executor!r}` contradict each other."
        raise UsageError(what, "The executor says which device a trial has.", f"Try `device={family(place)!r}`.")
    device = family(place)
    data = TaskChoice(
        reference=task,
        image_size=asked.image_size,
        seq_len=asked.seq_len or (defaults.TEXT_LENGTH if kind == "text" else None),
        tokenizer=asked.tokenizer,
        tokens=asked.tokens,
        train_limit=asked.train_limit,
        evaluation_limit=asked.evaluation_limit or defaults.EVALUATED.get(task),
    )
    parted = asked.parallel == "fsdp"  # kernels that are parted lie with their channels outermost
    recipe = Recipe(
        model=ModelChoice(
            args=tuple((asked.model_args or {}).items()),
            **_weights(asked.weights),
            **defaults.sizes(model, asked.depths, asked.width, asked.stem, kind),
        ),
        task=data,
        steps=asked.steps or _steps(asked.epochs, batch, data, budget["steps"], asked.on_progress),
        batch=batch,
        accumulate=asked.accumulate,
        optimizer=asked.optimizer,
        lr=budget["lr"] if asked.lr is None else asked.lr,
        warmup=asked.warmup,
        weight_decay=usual if asked.weight_decay is None else asked.weight_decay,
        laurel_lr=asked.laurel_lr,
        clip=asked.clip,
        dtype=Workload.checked("train", asked.dtype, asked.compile, False).dtype,
        evaluations=asked.evaluations,
        evaluation_batch=defaults.EVALUATION_BATCH[kind],
        flip=asked.flip,
        channels_last=asked.channels_last and kind == "image" and kind_of(device).channels_last and not parted,
        compile=asked.compile,
        device=device,
        threads=asked.threads if is_host(device) else None,
        spec=asked.of_spec | {"rank": asked.rank},
        world=asked.world,
        parallel=asked.parallel,
        distillation=_distillation(asked),
    )
    return StudyPlan(
        recipe,
        arms=defaults.ARMS if not asked.arms else asked.arms if isinstance(asked.arms, str) else ",".join(asked.arms),
        against=tuple(dict.fromkeys(asked.against)),
        seeds=asked.seeds or (defaults.SEEDS if model is None else defaults.MODELS_SEEDS),
        first_seed=asked.first_seed,
        folder=None if asked.study is None else Path(asked.study),
        resume=asked.resume,
        rates=asked.lr_search,
        most_seeds=asked.until_separated,
        controls=asked.controls,
        positive=asked.positive_control,
        control_seeds=asked.control_seeds,
        steps_saved=asked.steps_saved,
        worth=asked.worth,
        processes=asked.processes,
        executor=executor,
        options=_options(executor, asked),
        gpus=_gpus(asked.gpus_per_trial, place),
        cpus=asked.cpus_per_trial,
        trials_per_job=asked.trials_per_job,
        max_retries=asked.max_retries,
        place=place,
        allowed=asked.allowed,
        keep=asked.keep_weights,
        command=command,
        versions=versions,
    )


def _of_images(asked: TrainSettings, task: str, kind: str) -> None:
    """Refuse what says nothing to a task of text.

    Raises:
        UsageError: something of images is asked for.
    """
    for name in ("flip", "stem"):
        if kind == "text" and getattr(asked, name) is not None:
            what = f"`{name}={getattr(asked, name)!r}` does not fit {task.partition(':')[0]}."
            raise UsageError(what, "That is a task of text.", f"Leave `{name}` out.")


def _options(executor: str, asked: TrainSettings) -> dict[str, Any]:
    """What was asked of the executor alone."""
    own = {name for name in executors.KINDS for name in executors.executor_of(name).OPTIONS}
    given = {name: getattr(asked, name) for name in sorted(own)}
    return executors.options_of(executor, {name: value for name, value in given.items() if value})


def _gpus(share: float | None, place: str) -> float | None:
    """GPUs of each trial.

    Raises:
        UsageError: they are no number of GPUs, the device is none, or names itself which.
    """
    from laurel_cli.devices import family, kind_of

    if not share:
        return share
    if share > 1 and share != int(share):
        what = f"`gpus_per_trial={share:g}` is neither a share of a GPU nor a number of them."
        raise UsageError(what, hint="Try `gpus_per_trial=0.5` or `gpus_per_trial=2`.")
    if not kind_of(place).shown_by:
        what = f"`gpus_per_trial={share:g}` needs a study on GPUs."
        raise UsageError(what, f"This one trains on {place}.", "Leave it out, or add `device='cuda'`.")
    if place != family(place):
        what = f"`gpus_per_trial={share:g}` and `device={place!r}` contradict each other."
        raise UsageError(what, "Both say which GPU a trial has.", f"Try `device={family(place)!r}`.")
    return share


def _weights(place: str | Path | None) -> dict[str, Any]:
    from laurel_cli.proxy.weights import checksum

    return {} if place is None else {"weights": str(place), "weights_sha256": checksum(expanded(place))}


def _distillation(asked: TrainSettings) -> Any:
    """What is learned from a teacher; None without one.

    Raises:
        UsageError: a teacher without weights, or what is said of a teacher without one.
        RecordError: its weights cannot be read.
    """
    from laurel_cli.proxy.recipe import Distillation, ModelChoice

    besides = ("teacher_weights", "teacher_args", "temperature", "teacher_share")
    given = [name for name in besides if getattr(asked, name) not in (None, {})]
    if asked.teacher is None:
        if given:
            raise UsageError(f"`{given[0]}` needs `teacher`.", "It says something of the teacher.", "Name the teacher.")
        return None
    if asked.teacher_weights is None:
        what = f"The teacher {asked.teacher!r} needs `teacher_weights`."
        raise UsageError(what, "Without trained weights it has nothing to teach.", "Name a file of safetensors.")
    numbers = {"temperature": asked.temperature, "share": asked.teacher_share}
    teacher = ModelChoice(
        asked.teacher, args=tuple((asked.teacher_args or {}).items()), **_weights(asked.teacher_weights)
    )
    return Distillation(teacher, **{name: value for name, value in numbers.items() if value is not None})


def _steps(epochs: float | None, batch: int, data: Any, usual: int, on_progress: Callable[[str], None]) -> int:
    return usual if epochs is None else defaults.steps_of(epochs, batch, data, on_progress)
