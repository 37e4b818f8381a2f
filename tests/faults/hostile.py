"""Models that do to Python what no model should, and what every failure must look like."""

import json

MODELS = """
import atexit, ctypes, os, signal, sys, threading, time
import torch
from torch import nn
from laurel_cli.errors import UsageError

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.map(x).relu()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(Layer(), Layer())

    def forward(self, x):
        return self.layers(x)

class Odd(BaseException):
    pass

class Mute(Exception):
    def __str__(self):
        sys.exit(0)

def fails(fault):
    def forward(self, x):
        fault()
        return self.layers(x)
    return type("Faulty", (Net,), {"forward": forward})

def throw(error):
    raise error

def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(1000)

exits = fails(lambda: sys.exit(0))
odd = fails(lambda: throw(Odd("as it is")))
closes = fails(lambda: throw(GeneratorExit()))
interrupts = fails(lambda: throw(KeyboardInterrupt()))
ours = fails(lambda: throw(UsageError("wrong", "words", "of ours")))
mute = fails(lambda: throw(Mute()))
sleeps = fails(lambda: time.sleep(1000))
sleeps_deaf = fails(deaf)
leaves = fails(lambda: os._exit(0))
crashes = fails(lambda: ctypes.string_at(0))
aborts = fails(os.abort)
is_killed = fails(lambda: os.kill(os.getpid(), signal.SIGKILL))
garbles = fails(lambda: [os.write(fd, b"noise\\n") for fd in range(3, 40) if writable(fd)])
shuts = fails(lambda: os.closerange(3, 100))

def writable(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe") and os.write(fd, b"") == 0
    except OSError:
        return False

def forks_in_forward():
    return fails(os.fork)()

def forks():
    os.fork()
    return Net()

def forks_a_sleeper():
    if os.fork() == 0:
        time.sleep(1000)
    return Net()

def leaves_a_thread():
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return Net()

def leaves_a_hook():
    atexit.register(time.sleep, 1000)
    return Net()

def prints():
    print("printed"); os.write(1, b"raw\\n"); os.system("echo child")
    atexit.register(print, "late")
    return Net()

def factory_leaves():
    os._exit(3)

def factory_crashes():
    ctypes.string_at(0)

def hooked():
    net = Net()
    net.register_forward_hook(lambda *_: sys.exit(0))
    return net

class Parameters(Net):
    def parameters(self, recurse=True):
        return [1, 2]

class Names(Net):
    def named_modules(self, *args, **kwargs):
        sys.exit(0)

class Attributes(Net):
    def __getattr__(self, name):
        if name == "layers":
            throw(Odd("no such layers"))
        return super().__getattr__(name)

class Copies(Net):
    def __deepcopy__(self, memo):
        sys.exit(0)

class Says(Net):
    def __repr__(self):
        sys.exit(0)

def in_training(fault):
    class Trained(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(3072, 8), nn.Linear(8, 10)
            self.layers = nn.Sequential(Layer(), Layer())

        def forward(self, x):
            if self.training and type(x) is torch.Tensor:  # not while it is counted without data
                fault()
            return self.head(self.layers(self.embed(x.flatten(1))))
    return Trained

trains = in_training(lambda: None)
trains_and_exits = in_training(lambda: sys.exit(0))
trains_and_leaves = in_training(lambda: os._exit(0))
trains_and_crashes = in_training(lambda: ctypes.string_at(0))
trains_and_garbles = in_training(lambda: [os.write(fd, b"noise\\n") for fd in range(3, 40) if writable(fd)])
trains_and_sleeps = in_training(lambda: time.sleep(1000))
trains_and_forks = in_training(os.fork)

def example_inputs():
    return torch.randn(2, 3, 32, 32)
"""


def error_of(done):
    """The one document on stdout, an error whose code is that of the process."""
    document = json.loads(done.stdout)
    assert document["schema"] == "laurel.error/1"
    assert document["error"]["code"] == done.returncode
    assert "Traceback" not in done.stderr
    return document["error"]
