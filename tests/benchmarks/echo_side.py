"""A contestant for the tests: computes `scale * n`, and fails on the case "broken"; prints where it should not."""

import sys

import numpy as np
from paired import Message, Unavailable, Work, serve


def prepare(case: Message) -> Work:
    print("noise on stdout")
    if case["name"] == "broken":
        raise Unavailable("no such layer")
    scale = float(sys.argv[1])
    return Work(lambda: None, lambda result: None, {"output": scale * np.arange(1.0, case["n"] + 1)})


serve({"versions": {"echo": sys.argv[1]}, "device": "cpu"}, prepare)
