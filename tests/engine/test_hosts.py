"""Hosts of a run find one another, hear of one another, and end together, with a sentence; a hang is named."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import jax
import pytest

from cvjax.engine.config import RunConfig
from cvjax.engine.distributed import ClusterConfig, check_device_counts
from cvjax.engine.guards import hosts, joining, stall, stop
from cvjax.engine.guards.ending import LOST, ending_of
from cvjax.engine.guards.hosts import HostWatch, watched
from cvjax.engine.guards.pulse import DATA, DEVICES, HOST, Pulse
from cvjax.engine.guards.stall import stall_minutes, watched_for_stalls
from cvjax.engine.guards.stop import StopSignal
from cvjax.errors import CheckpointError, ConfigError, DataError


class Store(dict):
    """The texts that hosts share, in one process."""

    def key_value_set(self, key, value, allow_overwrite=False):
        self[key] = value

    def key_value_dir_get(self, key):
        return [(name, text) for name, text in sorted(self.items()) if name.startswith(key)]


class Ended(BaseException):
    """The end of a process, in the test's own."""


@pytest.fixture
def ends(monkeypatch):
    """What the processes say at their end."""
    said = []

    def end(line, status):
        said.append((status, line))
        raise Ended

    monkeypatch.setattr(hosts, "_GRACE", 0.3)
    monkeypatch.setattr(hosts, "_LINGER", 0.3)
    for module in (hosts, stall):
        monkeypatch.setattr(module, "end_process", end)
    monkeypatch.setattr(threading, "excepthook", lambda failure: None)  # the end of a thread that ends its process
    return said


@pytest.fixture
def clock(monkeypatch):
    """A clock of the watches that the test sets."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(hosts, "time", SimpleNamespace(monotonic=lambda: now.seconds, sleep=time.sleep))
    monkeypatch.setattr(hosts.platform, "node", lambda: "machine")
    return now


def watches(count, silence=40.0):
    store = Store()
    return [HostWatch(store, number=n, count=count, silence=silence, pulse=Pulse()) for n in range(count)]


def test_a_silent_host_ends_all_others_within_the_minute(clock):
    first, second, third = watches(3)
    second._pulse.now(DATA, 7)
    for clock.seconds in range(0, 20, 2):
        assert [watch.round() for watch in (first, second, third)] == [None] * 3
    for clock.seconds in range(20, 120, 2):
        found = [watch.round() for watch in (third, first, third)]
        if any(found):
            break
    assert clock.seconds - 18 <= 44
    status, sentence = first.round()
    assert third.round() == (status, sentence)
    assert status == LOST == 75
    assert sentence == (
        "host 1 (machine) is lost: nothing was heard of it for 40 seconds, at step 7; the end of its own log says why,"
        " and --resume on all hosts goes on from the latest checkpoint"
    )


def test_a_host_that_never_begins_is_lost_too(clock):
    first, _ = watches(2)
    assert first.round() is None
    clock.seconds = 41.0
    assert "host 1 (which has not begun) is lost" in first.round()[1]


def test_hosts_that_are_through_wait_for_one_another(ends):
    pair = watches(2, silence=0.4)
    for watch in pair:
        watch.start()
    waiting = threading.Thread(target=pair[1].finish)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    pair[0].finish()
    waiting.join(10)
    assert not waiting.is_alive()
    assert not ends


@pytest.mark.parametrize(
    ("error", "status", "here", "there"),
    [
        (DataError("a.jpg: is broken; mend it"), 2, "error: a.jpg: is broken; mend it", "a.jpg: is broken; mend it"),
        (KeyError("x"), 1, "", "KeyError: 'x'"),
        (
            OSError(28, "No space left on device", "/run"),
            2,
            "error: /run: No space left on device; give",
            "/run: No sp",
        ),
        (KeyboardInterrupt(), 130, "interrupted", "interrupted"),
    ],
)
def test_a_host_that_fails_says_why_and_the_others_say_so(ends, capsys, error, status, here, there):
    first, second = watches(2, silence=4.0)
    second.round()

    def other():
        while not any(key.startswith("cvjax/end/") for key in first._store):
            time.sleep(0.01)
        first.start()

    listening = threading.Thread(target=other)
    listening.start()
    with pytest.raises(Ended), watched(second):
        raise error
    listening.join()
    deadline = time.monotonic() + 20
    while len(ends) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    (own, line), (others, told) = ends
    assert own == others == status
    assert line.startswith(here)
    assert ("KeyError" in capsys.readouterr().err) == (not here)
    assert told.startswith("error: host 1 (")
    assert f") has stopped: {there}" in told


def test_a_collective_that_breaks_waits_for_the_host_that_broke_it(ends):
    """The error itself names nobody."""
    first, _ = watches(2, silence=0.6)
    broken = ValueError("UNKNOWN: Gloo AllReduce failed: Connection closed by peer")
    began = time.monotonic()
    with pytest.raises(Ended), watched(first):
        # The thread ends the process, which is this one; then the main thread is free to go on.
        raise CheckpointError("it could not be written; free some space") from broken
    assert "host 1 (which has not begun) is lost: nothing was heard of it for 0.6 seconds" in ends[0][1]
    assert ends[0][0] == LOST
    assert time.monotonic() - began < 60


def test_a_connection_to_process_0_that_breaks_is_named_at_once(ends):
    _, second = watches(2)
    second._coordinator_lost.set()
    second.start()
    second._asking.set()
    deadline = time.monotonic() + 20
    while not ends and time.monotonic() < deadline:
        time.sleep(0.01)
    second._over.set()
    assert ends[0][0] == LOST
    assert ends[0][1].startswith("error: host 0 is lost: its connection broke off, at step 0;")


def test_a_relay_outlives_the_other_end():
    server = socket.create_server(("127.0.0.1", 0))
    lost = threading.Event()
    address, near = joining._start_relay(f"127.0.0.1:{server.getsockname()[1]}", lost), []
    host, _, port = address.rpartition(":")
    for _ in range(2):
        near.append(socket.create_connection((host, int(port)), timeout=20))
    far = [server.accept()[0] for _ in range(2)]
    by_peer = []
    for end in near:  # in either order
        end.sendall(b"ask")
    for end in far:
        assert end.recv(10) == b"ask"
        end.sendall(b"answer" * 50_000)
        by_peer.append(end)
    for end in near:
        got = b""
        while len(got) < 300_000:
            got += end.recv(1 << 16)
        assert got == b"answer" * 50_000
    near[0].close()
    for end in by_peer:
        end.settimeout(0.5)
    ended = [end for end in by_peer if _ends(end)]
    assert len(ended) == 1
    assert not lost.is_set()  # this side closed it
    (open_one,) = [end for end in by_peer if end not in ended]
    open_one.close()
    assert lost.wait(20)
    near[1].settimeout(0.5)
    with pytest.raises(TimeoutError):  # nothing comes, and it is open
        near[1].recv(1)


def _ends(end):
    try:
        return end.recv(1) == b""
    except TimeoutError:
        return False


def test_a_stall_names_host_step_and_what_was_awaited(ends, tmp_path):
    first, second = watches(2)
    second._pulse.now(DATA, 41)
    second.round()
    first._pulse.now(DEVICES, 42)
    with watched_for_stalls(first._pulse, 0.002, tmp_path, first):
        deadline = time.monotonic() + 20
        while not ends and time.monotonic() < deadline:
            time.sleep(0.01)
    ((status, line),) = ends
    assert status == LOST
    assert line.startswith("error: host 0 has been waiting for the devices at step 42 for 0.002 minutes (another host")
    assert ") is waiting for a batch at step 41; where each of its threads was is in" in line
    assert "--stall-minutes" in line
    assert "test_a_stall_names_host" in (tmp_path / "stacks-0.txt").read_text()
    assert second.round() == (LOST, line.replace("error: ", f"host 0 ({hosts.platform.node()}) has stopped: "))


def test_a_run_that_gets_on_is_no_stall(ends, tmp_path):
    pulse = Pulse()
    with watched_for_stalls(pulse, 0.01, tmp_path):
        for step in range(12):
            pulse.now(HOST, step)
            time.sleep(0.1)
    assert not ends


def test_who_waits_how_long(monkeypatch):
    assert stall_minutes(RunConfig()) == 0
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert stall_minutes(RunConfig()) == 30
    assert stall_minutes(RunConfig(stall_minutes=0.0)) == 0
    assert stall_minutes(RunConfig(stall_minutes=1.5)) == 1.5


def test_of_several_hosts_all_stop_at_the_step_that_they_agree_on(monkeypatch):
    """Ctrl-C is passed on as the SIGTERM that JAX listens to; the host that got it keeps its status."""
    sent = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(stop.multihost_utils, "reached_preemption_sync_point", lambda step: step == 5)
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append(number))
    before = signal.getsignal(signal.SIGTERM)
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf to it
    for number, status in ((signal.SIGINT, 130), (None, 143)):
        with StopSignal() as asked:
            assert signal.getsignal(signal.SIGTERM) is before  # JAX's own, which Python does not see
            if number:
                signal.raise_signal(number)
                assert sent == [signal.SIGTERM]
            assert [asked.requested(step) for step in (3, 4, 5)] == [False, False, True]
            assert stop.status(asked.number) == status
    signal.signal(signal.SIGINT, heard)


def test_statuses_are_those_that_a_scheduler_can_act_on():
    assert ending_of(ConfigError("no"))[0] == 2
    assert ending_of(KeyError("a bug")) == (1, "")
    assert ending_of(KeyboardInterrupt())[0] == 130
    assert ending_of(SystemExit(143))[0] == 143


def test_hosts_with_unequal_devices_are_named(monkeypatch):
    check_device_counts()
    devices = [SimpleNamespace(process_index=host, platform="tpu") for host in (0, 0, 0, 0, 1, 1)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    with pytest.raises(ConfigError, match="host 0 has 4 tpu devices and host 1 has 2; give each"):
        check_device_counts()


_DETECT = """
import json, os, sys, types
from jax._src import clusters, distributed
from jax._src.clusters import cloud_tpu_cluster, k8s_cluster
from cvjax.engine.distributed import ClusterConfig, initialize
from cvjax.engine.guards import joining

class Joined:
    def __getattr__(self, name): return lambda *args, **options: None

made = {}
def client(address, number, *args, **options):
    made.update(address=address, number=number, **options)
    return Joined()
distributed._jax.get_distributed_runtime_client = client
def service(address, count, **options):
    made.update(count=count)
    return Joined()
distributed._jax.get_distributed_runtime_service = service
distributed._jax.create_preemption_sync_manager = Joined
joining._start_relay = lambda address, lost: "relay to " + address

class Api:  # what a pod may read of itself
    def list_namespaced_pod(self, **_):
        meta = types.SimpleNamespace(labels={"job-name": "cvjax-0"}, owner_references=[
            types.SimpleNamespace(controller=True, kind="Job")], name="cvjax-0-1")
        return types.SimpleNamespace(items=[types.SimpleNamespace(metadata=meta, spec=None)])
    def read_namespaced_job(self, **_):
        labels = {"jobset.sigs.k8s.io/jobset-name": "cvjax"}
        return types.SimpleNamespace(metadata=types.SimpleNamespace(name="cvjax-0", labels=labels),
            spec=types.SimpleNamespace(parallelism=4))
k8s = types.SimpleNamespace(
    config=types.SimpleNamespace(load_incluster_config=lambda: None),
    client=types.SimpleNamespace(CoreV1Api=Api, BatchV1Api=Api, exceptions=types.SimpleNamespace(ApiException=OSError)))
sys.modules["kubernetes"] = k8s
k8s_cluster.K8sCluster._namespace = classmethod(lambda cls: "default")
k8s_cluster.socket = types.SimpleNamespace(gethostbyname=lambda name: "10.0.0.1", gaierror=OSError)
cloud_tpu_cluster.socket = k8s_cluster.socket
plain, found = dict(os.environ), {}
for name, variables in json.loads(sys.argv[1]).items():
    os.environ.clear()
    os.environ.update(plain, **variables)
    for module in (cloud_tpu_cluster, clusters.cluster):
        module.running_in_cloud_tpu_vm = "TPU_WORKER_ID" in variables
    distributed.global_state = joining.distributed.global_state = distributed.State()
    made.clear()
    initialize(ClusterConfig(distributed=True))
    found[name] = dict(made, place=joining.place())
print(json.dumps(found))
"""

_SLURM = {"SLURM_JOB_ID": "4097", "SLURM_STEP_NODELIST": "gpu[07-09],gpu12", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}
_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}
_ONE_SLICE = {"MEGASCALE_COORDINATOR_ADDRESS": "", "MEGASCALE_NUM_SLICES": "1", "MEGASCALE_SLICE_ID": "0"}
_CLUSTERS = {
    "slurm": (_SLURM | {"SLURM_PROCID": "2"}, "gpu07:61441", (2, 4)),
    "slurm, process 0": (_SLURM | {"SLURM_PROCID": "0"}, "gpu07:61441", (0, 4)),
    "open mpi": (_MPI | {"OMPI_COMM_WORLD_RANK": "5"}, "10.96.0.1:62624", (5, 8)),
    "cloud tpu": ({"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "t0,t1,t2,t3"} | _ONE_SLICE, "t0:8482", (1, 4)),
    "kubernetes": (
        {"KUBERNETES_SERVICE_HOST": "10.0.0.9", "JOB_COMPLETION_INDEX": "3", "HOSTNAME": "cvjax-0-3"},
        "cvjax-0-0.cvjax:55527",
        (3, 4),
    ),
}


def test_clusters_that_describe_themselves_are_found():
    """By JAX, from the variables that each scheduler sets; hosts other than 0 connect through a relay."""
    variables = {name: values for name, (values, _, _) in _CLUSTERS.items()}
    command = [sys.executable, "-c", _DETECT, json.dumps(variables)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, (_, address, place) in _CLUSTERS.items():
        number, count = place
        assert found[name]["place"] == list(place), name
        assert found[name]["address"] == (f"relay to {address}" if number else address), name
        assert found[name].get("count") == (None if number else count), name
        assert found[name]["heartbeat_timeout"] > ClusterConfig().silence


def test_without_a_cluster_the_sentence_says_what_to_give():
    code = "from cvjax.engine.distributed import *; initialize(ClusterConfig(distributed=True))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "ConfigError: no cluster could be joined (coordinator_address should be defined.); start" in done.stderr
