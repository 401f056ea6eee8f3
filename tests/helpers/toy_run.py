"""A whole run of the toy as a process of its own: `python toy_run.py WORKDIR STEPS [resume] [slow]`."""

import pathlib
import sys
import time

import jax
from toy import ToyNet, toy_batch, toy_stream, toy_task, toy_variables

from cvjax.engine.config import RunConfig
from cvjax.engine.evaluate import evaluate
from cvjax.engine.loop import fit
from cvjax.engine.optim import OptimizerConfig
from cvjax.engine.parallel import JitStrategy
from cvjax.engine.step import make_eval_step

METADATA = {"model": {"name": "toy"}, "data": {"name": "noise", "seed": 0}}
OPTIM = OptimizerConfig(learning_rate=0.05, ema_decay=0.99)


def toy_fit(
    workdir, steps=12, *, width=8, resume=False, pause=0.0, optim=OPTIM, metadata=METADATA, strategy=None, **loop
):
    """Runs the toy as an experiment runs its model; `crash` is the batch at which its data fail."""
    strategy = strategy or JitStrategy(jax.devices()[:1])
    crash, clock = loop.pop("crash", None), loop.pop("clock", time.monotonic)
    model, task = ToyNet(width=width), toy_task()

    step = strategy.compile_eval(make_eval_step(model, task, strategy.axis_name))

    def score(state):
        return evaluate(step, state.inference_variables, iter([toy_batch(99), toy_batch(98)]), task, strategy)

    def stream(start):
        for number, batch in enumerate(toy_stream(start), start):
            time.sleep(pause)
            if number == crash:
                raise RuntimeError(f"batch {number}")
            yield batch

    settings = {"steps": steps, "batch_size": 16, "log_every": 2, "eval_every": 6, "checkpoint_every": 3, "keep": 2}
    return fit(
        RunConfig(**(settings | loop), optim=optim, workdir=str(workdir), resume=resume),
        task,
        model,
        toy_variables(width),
        stream,
        score,
        strategy=strategy,
        metadata=metadata,
        example_name=lambda index: f"noise-{index:04d}",
        clock=clock,
    )


if __name__ == "__main__":
    pathlib.Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    toy_fit(sys.argv[1], int(sys.argv[2]), resume="resume" in sys.argv, pause=0.05 if "slow" in sys.argv else 0.0)
    print("finished", flush=True)
