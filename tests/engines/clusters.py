"""A Slurm of two nodes and a Ray of three raylets that live on this machine for as long as somebody needs them."""

from __future__ import annotations

import os
import platform
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TOOLS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
PORTS = (17001, 17002)
START = 60.0  # seconds in which a cluster is up

SLURM_CONF = """
ClusterName=probe
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
MpiDefault=none
ReturnToService=2
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool/%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[0]} CPUs=2 RealMemory={memory} State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 MaxTime=INFINITE State=UP
PartitionName=high Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


def no_slurm() -> str:
    """Why no Slurm can be started here; "" where one can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install slurm-wlm slurmd slurmctld munge)"
    if find_spec("submitit") is None:
        return "not installed: submitit (pip install 'laurel-cli[slurm]')"
    return "" if os.geteuid() == 0 else "a Slurm of one's own needs root"


def no_ray() -> str:
    """Why no Ray can be started here; "" where one can."""
    return "" if find_spec("ray") is not None else "not installed: ray (pip install 'laurel-cli[ray]')"


@dataclass
class Slurm:
    """A Slurm that runs; `env` are the variables by which its commands find it."""

    place: Path
    env: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> str:
        """What a command of Slurm's writes."""
        done = subprocess.run(words, env=os.environ | self.env, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def push_out(self, seconds: int) -> None:
        """Take both nodes for something of higher priority."""
        words = ["--partition", "high", "--nodes", "2", "--ntasks-per-node", "2", "--exclusive"]
        self.command("sbatch", *words, "--output", str(self.place / "high.out"), "--wrap", f"sleep {seconds}")

    def jobs(self) -> dict[str, tuple[str, int]]:
        """State of every job in the queue, and how often it was started again."""
        lines = self.command("squeue", "--noheader", "--array", "--format", "%i %T").split("\n")
        found = {}
        for job, state in (line.split() for line in lines if line.strip()):
            about = self.command("scontrol", "--oneliner", "show", "job", job)
            restarts = next((word for word in about.split() if word.startswith("Restarts=")), "Restarts=0")
            found[job] = (state, int(restarts.partition("=")[2]))
        return found


@contextmanager
def slurm(place: Path) -> Iterator[Slurm]:
    """Two nodes of two processors, which are this machine; a partition that may be pushed out by another one.

    Args:
        place: an empty folder.
    """
    (place / "state").mkdir(parents=True)
    (place / "spool").mkdir()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
    conf = place / "slurm.conf"
    conf.write_text(SLURM_CONF.format(host=platform.node(), place=place, ports=PORTS, memory=memory))
    found = Slurm(place, {"SLURM_CONF": str(conf)})
    env = os.environ | found.env
    munge = _munged(place)
    try:
        subprocess.run(["slurmctld", "-f", str(conf), "-c"], env=env, check=True, timeout=START)
        time.sleep(2)
        for node in ("n1", "n2"):
            subprocess.run(["slurmd", "-f", str(conf), "-N", node], env=env, check=True, timeout=START)
        nodes = ("sinfo", "--Node", "--noheader", "--format", "%N %T")
        _until(lambda: set(found.command(*nodes).splitlines()) == {"n1 idle", "n2 idle"}, place)
        yield found
    finally:
        with suppress(subprocess.SubprocessError):
            found.command("scancel", "--user", "root")
            time.sleep(2)
        for name in ("slurmd-n1", "slurmd-n2", "slurmctld"):
            _end(place / f"{name}.pid")
        if munge is not None:
            munge.terminate()
            munge.wait(10)


def _munged(place: Path) -> subprocess.Popen[bytes] | None:
    """The daemon by which Slurm's know each other; None where one runs already."""
    if (
        Path("/run/munge/munge.socket.2").exists()
        and subprocess.run(["munge", "-n"], capture_output=True).returncode == 0
    ):
        return None
    user = pwd.getpwnam("munge")
    key = Path("/etc/munge/munge.key")
    for folder in (Path("/run/munge"), Path("/var/log/munge"), Path("/var/lib/munge"), key.parent):
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, user.pw_uid, user.pw_gid)
    if not key.exists():
        key.write_bytes(secrets.token_bytes(1024))
    os.chown(key, user.pw_uid, user.pw_gid)
    key.chmod(0o400)
    with (place / "munged.log").open("wb") as log:
        process = subprocess.Popen(["runuser", "-u", "munge", "--", "munged", "--foreground"], stdout=log, stderr=log)
    _until(lambda: subprocess.run(["munge", "-n"], capture_output=True).returncode == 0, place)
    return process


@dataclass
class Ray:
    """A Ray that runs in a process of its own."""

    process: subprocess.Popen[str]
    address: str

    def kill_node(self) -> None:
        """Kill the raylet that runs a trial, or the second one where both do, and all that it has started."""
        self.say("kill")

    def say(self, word: str) -> str:
        """Tell the process that holds the cluster something, and hear what it did."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


RAY = {"RAY_DISABLE_USAGE_STATS": "1", "RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "120"}
HEAD = "127.0.0.2"
HOLD_RAY = """
import sys
from ray.cluster_utils import Cluster
small = {"object_store_memory": 80_000_000}
head = {"num_cpus": 0, "node_ip_address": "127.0.0.2", "include_dashboard": False, **small}
cluster = Cluster(initialize_head=True, head_node_args=head)
nodes = [cluster.add_node(num_cpus=1, node_ip_address=f"127.0.0.{3 + number}", **small) for number in (0, 1)]
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "kill":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        print("killed", flush=True)
    elif line.strip() == "add":
        nodes.append(cluster.add_node(num_cpus=1, node_ip_address="127.0.0.5", **small))
        print("added", flush=True)
cluster.shutdown()
"""
DRIVER = """
import sys
import ray
address = sys.argv.pop(1)
ray.init(
    address=address, _node_ip_address="127.0.0.2", namespace="laurel", log_to_driver=False, configure_logging=False
)
from laurel_cli.cli.main import run
run(sys.argv[1:])
"""
"""Ray's nodes on one machine are told apart by address, and only by this argument a driver joins one of them."""


@contextmanager
def ray(env: Mapping[str, str]) -> Iterator[Ray]:
    """A head that runs nothing and two nodes of one processor, which are this machine.

    Args:
        env: of the processes.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_RAY],
        env=env | RAY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        address = next((line.strip() for line in lines if line.startswith(HEAD)), "")
        if not address:
            raise RuntimeError("the Ray cluster has not started")
        yield Ray(process, address)
    finally:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until(true: Any, place: Path) -> None:
    until = time.monotonic() + START
    while True:
        with suppress(subprocess.SubprocessError):
            if true():
                return
        if time.monotonic() > until:
            raise RuntimeError(f"not up after {START:.0f} s; see the logs in {place}")
        time.sleep(0.5)


def _end(file: Path) -> None:
    """End the process whose number a file holds."""
    with suppress(OSError, ValueError):
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
