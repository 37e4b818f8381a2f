"""`laurel.profile`: how fast and how large every arm is on this machine."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from laurel_cli.latency.document import Profile
from laurel_cli.settings.base import called, taking
from laurel_cli.settings.profile import ProfileSettings


@taking(ProfileSettings)
def profile(asked: ProfileSettings) -> Profile:
    """Time every arm of a model beside the baseline, in fresh processes, and measure its memory.

    The arguments are the options of `laurel profile`, with the same defaults; `laurel profile --help` says of each
    what it does. Ctrl-C ends the run with what is known so far.

    >>> import laurel_cli as laurel
    >>> small = {"layers": 2, "width": 32, "heads": 2}
    >>> found = laurel.profile("paper-c4", "rw", model_args=small, seq_len=16, max_time=1, processes=2, records=None)
    >>> [name for name in found.to_frame().index]
    ['baseline', 'copy', 'rw']
    >>> rw = found.arm("rw")
    >>> rw.latency_ratio_low < rw.latency_ratio < rw.latency_ratio_high
    True

    Args:
        model: a reference such as "resnet50" or "FILE.py:FACTORY"; or a module, with the `inputs` that it is called
            with (a tensor, a tuple, a dict), which the processes rebuild by pickle: its classes stand in files.
        arms: "rw,rw+lr@16", or a list; the baseline and a copy of it, which shows the noise, run along.
        precision: in percent, how narrow every ratio's interval is to be; `max_time` in seconds.
        records: the folder in which a record with every sample is left, None for none.
        on_progress: told what is being done; `on_note` what is to be known at once.

    Returns:
        Ratios to the baseline, milliseconds of a call, samples or tokens a second, bytes.

    Raises:
        UsageError: an argument that means nothing, or does not go with another.
        ModelError: the model cannot be built or run, or a worker process cannot rebuild the module.
        ResourceError: the device is absent, memory ran out, or the record cannot be written.
        TypeError: a module without inputs.
    """
    from laurel_cli.latency.asked import keep, plan_of
    from laurel_cli.latency.profile import profile as measure
    from laurel_cli.records.store import make_folder

    if asked.records is not None:
        make_folder(Path(asked.records))
    with TemporaryDirectory(prefix="laurel-") as folder:
        plan = plan_of(asked, Path(folder))
        command = called("profile", asked)
        measured = measure(plan, command=command, on_progress=asked.on_progress, on_note=asked.on_note)
    if asked.records is not None:
        keep(measured, Path(asked.records))
    return measured
