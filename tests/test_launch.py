"""The launch files of docs/pods.md: they parse, hold the fields that matter, and their commands are ours."""

import importlib
import re
import shlex
import subprocess

import pytest
import yaml
from commands import configure
from documented import ROOT

from cvjax.engine.guards.ending import LOST

LAUNCH = ROOT / "docs" / "launch"
FILES = sorted(LAUNCH.iterdir())
AGAIN = {LOST, 134, 137, 139}


def commands(text):
    """Commands of ours in a file, with a number in the place of each variable."""
    text = re.sub(r"(?m)^\s*#.*$", "", text.replace("\\\n", " "))
    text = re.sub(r"\$\([^)]*\)|\$\{?\w+\}?", "1", text)
    text = re.sub(r">-\n\s+(exec .*)\n\s+(.*)", r"\1 \2", text)  # a folded string of YAML
    return [match[1].strip().strip('"') for match in re.finditer(r"python -m (experiments\.[^\n]+)", text)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_commands_parse_and_resume(file):
    found = commands(file.read_text())
    assert found or file.name == "restart.sh"
    for text in found:
        module, *argv = shlex.split(text)
        config = configure(importlib.import_module(module), argv)
        assert config.resume
        assert config.cluster.distributed or config.cluster.coordinator.endswith(":8476")
        assert config.batch_size == config.eval.batch_size
        assert "workdir" in config.workdir or "runs/voc" in config.workdir


@pytest.mark.parametrize("name", ["restart.sh", "tpu_vm.sh", "slurm.sbatch"])
def test_scripts_are_bash(name):
    done = subprocess.run(["bash", "-n", str(LAUNCH / name)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_jobset_has_a_pod_a_host_and_starts_again_but_for_mistakes():
    jobset = yaml.safe_load((LAUNCH / "gke.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0
    assert policy["rules"][0]["action"] == "FailJobSet"
    assert policy["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]
    (part,) = jobset["spec"]["replicatedJobs"]
    job = part["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert job["completionMode"] == "Indexed"
    chips = container["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == rows * columns // chips
    assert job["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"  # which the policy of exit codes needs
    assert pod["terminationGracePeriodSeconds"] >= 60
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert not AGAIN & set(rule["onExitCodes"]["values"])
    assert 2 in rule["onExitCodes"]["values"]
    assert container["args"][0].startswith("exec python")


def test_slurm_starts_a_task_a_gpu_and_warns_before_the_time_is_over():
    text = (LAUNCH / "slurm.sbatch").read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.MULTILINE))
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    assert asked["signal"].startswith("TERM@")  # to the tasks, and not to the shell alone
    assert "requeue" in asked
    requeued = re.search(r"([\d |]+)\) scontrol requeue", text)
    assert {int(status) for status in requeued[1].split("|")} == AGAIN | {143}


def test_skypilot_recovers_from_what_a_new_start_cures():
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert set(task["resources"]["job_recovery"]["recover_on_exit_codes"]) == AGAIN | {143}
    assert task["num_nodes"] > 1
    done = subprocess.run(["bash", "-n"], input=task["setup"] + task["run"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_loop_starts_again_until_it_helps_no_more(tmp_path):
    def run(*statuses, tries=5):
        (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        each = 'read -r now < statuses; sed -i 1d statuses; exit "$now"'
        return subprocess.run(
            ["bash", str(LAUNCH / "restart.sh"), "bash", "-c", each],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PAUSE": "0", "TRIES": str(tries)},
            capture_output=True,
            text=True,
        )

    assert run(75, 137, 0).returncode == 0
    assert run(75, 2, 0).returncode == 2
    assert run(143, 0).returncode == 143
    tired = run(75, 75, 75, tries=2)
    assert tired.returncode == 75
    assert tired.stderr.count("starting again") == 2


def test_a_sigterm_to_the_loop_is_the_commands():
    command = "trap 'exit 143' TERM; echo up; sleep 5 & wait"
    loop = subprocess.Popen(
        ["bash", str(LAUNCH / "restart.sh"), "bash", "-c", command], stdout=subprocess.PIPE, text=True
    )
    assert loop.stdout.readline() == "up\n"
    loop.terminate()
    assert loop.wait(timeout=20) == 143


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_who_works_in_a_bucket_has_its_driver(file):
    text = file.read_text()
    assert ("gs://" in text) == bool(re.search(r"\[\w+,gcs\]|`gcs`", text))
