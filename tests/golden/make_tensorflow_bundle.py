"""Writes small checkpoints of TensorFlow's, and what is in them: `python tests/golden/make_tensorflow_bundle.py`.

Needs tensorflow (2.21 made the files). `graph` is of version 2 by TensorFlow 1's Saver, in three data files, with
partitioned variables and an optimizer's slots; `objects` by TensorFlow 2's Checkpoint; `version1` is of version 1.
`expected.npz` holds the values by "CHECKPOINT:NAME", in which bfloat16 and half are float32.
"""

import pathlib

import numpy as np
import tensorflow as tf

FOLDER = pathlib.Path(__file__).resolve().parent / "tensorflow"
v1 = tf.compat.v1


def _drawn(shape: tuple[int, ...], kind: tf.DType) -> np.ndarray:
    rng = np.random.default_rng(len(shape) + sum(shape) + kind.as_datatype_enum)
    if kind.is_bool:
        return rng.random(shape) < 0.5
    if kind.is_integer:
        return rng.integers(kind.min, kind.max, shape, kind.as_numpy_dtype, endpoint=True)
    return rng.standard_normal(shape).astype(kind.as_numpy_dtype)


def _known(values: np.ndarray) -> np.ndarray:
    """Returns an array as numpy's files can hold it."""
    return values.astype(np.float32) if values.dtype in (tf.bfloat16.as_numpy_dtype, np.float16) else values


def graph() -> dict[str, np.ndarray]:
    expected = {}
    plain = {
        "net/conv/weights": ((3, 3, 2, 5), tf.float32),
        "net/conv/biases": ((5,), tf.float32),
        "net/scalar": ((), tf.float32),
        "net/empty": ((0, 3), tf.float32),
        "double": ((3, 2), tf.float64),
        "half": ((3, 5), tf.float16),
        "brain": ((3, 5), tf.bfloat16),
        "flags": ((7,), tf.bool),
        "int8": ((3,), tf.int8),
        "uint8": ((3,), tf.uint8),
        "int16": ((3,), tf.int16),
        "uint16": ((3,), tf.uint16),
        "int32": ((3,), tf.int32),
        "int64": ((3,), tf.int64),
    }
    partitioned = {  # axis, parts
        "parts/rows": ((130, 2), 0, 2),  # starts and lengths above 63 have two bytes in a part's key
        "parts/columns": ((2, 7), 1, 3),
    }
    with tf.Graph().as_default():
        for number, (name, (shape, kind)) in enumerate(plain.items()):
            expected[name] = _drawn(shape, kind)
            with tf.device(f"/cpu:{number % 2}"):
                v1.get_variable(name, initializer=tf.constant(expected[name], kind))
        for name, (shape, axis, count) in partitioned.items():
            expected[name] = _drawn(shape, tf.float32)
            with v1.variable_scope(name.split("/")[0]):
                v1.get_variable(
                    name.split("/")[1],
                    shape,
                    tf.float32,
                    initializer=v1.zeros_initializer(),
                    partitioner=v1.fixed_size_partitioner(count, axis),
                )
        v1.get_variable("words", initializer=tf.constant(["a", "bc"]))
        weights = next(v for v in v1.global_variables() if v.op.name == "net/conv/weights")
        step = v1.train.get_or_create_global_step()
        train = v1.train.MomentumOptimizer(0.0, 0.9).minimize(tf.reduce_sum(weights), step, [weights])
        saver = v1.train.Saver(sharded=True)
        with v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(v1.global_variables_initializer())
            # A constant cannot fill the parts of a whole, so they are assigned.
            for name, (_, axis, count) in partitioned.items():
                for number, part in enumerate(np.array_split(expected[name], count, axis)):
                    variable = next(v for v in v1.global_variables() if v.op.name == f"{name}/part_{number}")
                    variable.load(part, session)
            session.run(train)
            saver.save(session, str(FOLDER / "graph"), write_meta_graph=False, write_state=False)
    expected["global_step"] = np.array(1, np.int64)
    expected["net/conv/weights/Momentum"] = np.ones((3, 3, 2, 5), np.float32)
    return expected


def objects() -> dict[str, np.ndarray]:
    values = {"kernel": _drawn((2, 3), tf.float32), "steps": _drawn((), tf.int64)}
    tf.train.Checkpoint(**{name: tf.Variable(value) for name, value in values.items()}).write(str(FOLDER / "objects"))
    return {f"{name}/.ATTRIBUTES/VARIABLE_VALUE": value for name, value in values.items()}


def version1() -> dict[str, np.ndarray]:
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("weights", initializer=tf.constant(_drawn((2, 3), tf.float32)))
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(write_version=v1.train.SaverDef.V1)
        saver.save(session, str(FOLDER / "version1.ckpt"), write_meta_graph=False, write_state=False)
    return {}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    expected = {
        f"{make.__name__}:{name}": _known(value)
        for make in (graph, objects, version1)
        for name, value in make().items()
    }
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
