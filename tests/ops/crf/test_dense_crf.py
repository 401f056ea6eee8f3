"""Dense CRF against the authors' program (numbers in tests/golden), against brute force, and its gradients."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cvjax.nn import DenseCRF
from cvjax.ops.crf.dense_crf import dense_crf
from cvjax.ops.crf.kernels import DEEPLAB_V1, CRFKernels

_GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "dense_crf.npz")
_inference = jax.jit(dense_crf, static_argnames=("kernels", "iterations", "log", "exact"))
_SMALL = CRFKernels(3.0, 1.5, 5.0, 8.0, 20.0)


def _scene(classes=4, size=(24, 24), seed=0):
    """Blobs of color under noise, and unaries that know the labels badly."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels = ((rows // 9) * 2 + columns // 9) % classes
    colors = rng.uniform(40, 215, size=(classes, 3))
    image = np.clip(colors[labels] + rng.normal(scale=12, size=(*size, 3)), 0, 255).astype(np.uint8)
    probabilities = 0.3 * np.eye(classes)[labels] + 0.7 * rng.dirichlet(np.ones(classes), size=size)
    return image, -np.log(probabilities).astype(np.float32), labels


@pytest.mark.parametrize("iterations", [1, 5, 10])
def test_agrees_with_the_authors_program_on_two_labels(iterations):
    kernels = CRFKernels(3.0, 3.0, 10.0, 80.0, 13.0)
    ours = np.asarray(
        jax.jit(lambda u, i: _inference(u, i, kernels, iterations=iterations))(_GOLDEN["unary"], _GOLDEN["image"])
    )
    theirs = _GOLDEN[f"foreground_{iterations}"] / 255
    assert np.abs(ours[..., 1] - theirs).mean() < 0.01
    assert (ours.argmax(-1) == (theirs > 0.5)).mean() > 0.995


def test_agrees_with_the_authors_program_on_21_labels():
    ours = np.asarray(_inference(-np.log(_GOLDEN["prob21"]), _GOLDEN["image"]))
    assert (ours.argmax(-1) == _GOLDEN["labels21"]).mean() > 0.995
    assert np.abs(ours.max(-1) - _GOLDEN["best21"] / 255).mean() < 0.01


def test_agrees_with_all_marginals_of_the_authors_program(shared_dir):
    reference = np.load(shared_dir / "reference" / "dense_crf.npz")
    unary = -np.log(reference["prob21_chw"].transpose(1, 2, 0))
    ours = np.asarray(_inference(unary, reference["image"]))
    theirs = reference["marginals21_chw_10"].transpose(1, 2, 0)
    assert np.abs(ours - theirs).mean() < 0.001
    assert (ours.argmax(-1) == theirs.argmax(-1)).mean() > 0.995


@pytest.mark.parametrize(
    "kernels", [_SMALL, DEEPLAB_V1, CRFKernels(3.0, 1.5, 0.0), CRFKernels(0.0, 1.0, 5.0, 6.0, 30.0)]
)
def test_close_to_brute_force(kernels):
    image, unaries, _ = _scene()
    fast = _inference(unaries, image, kernels)
    exact = _inference(unaries, image, kernels, exact=True)
    assert np.abs(np.asarray(fast - exact)).mean() < 0.02


def test_brute_force_is_mean_field_as_published():
    image, unaries, _ = _scene(classes=3, size=(5, 6))
    rows, columns = np.mgrid[:5, :6].reshape(2, -1)
    position = np.stack([columns, rows], -1)
    far = lambda points: np.square(points[:, None] - points[None]).sum(-1)  # noqa: E731
    colors = image.reshape(-1, 3).astype(np.float64)
    kernels = [np.exp(-far(position) / (2 * 1.5**2)), np.exp(-far(position) / (2 * 8**2) - far(colors) / (2 * 20**2))]
    marginals = np.exp(-unaries.reshape(-1, 3).astype(np.float64))
    marginals /= marginals.sum(1, keepdims=True)
    for _ in range(3):
        energy = unaries.reshape(-1, 3).astype(np.float64).copy()
        for weight, kernel in zip((3.0, 5.0), kernels):
            scale = 1 / np.sqrt(kernel.sum(1))
            messages = (scale[:, None] * kernel * scale) @ marginals
            energy += weight * (messages.sum(1, keepdims=True) - messages)  # Potts: what differs costs
        marginals = np.exp(-energy)
        marginals /= marginals.sum(1, keepdims=True)
    ours = _inference(unaries, image, _SMALL, iterations=3, exact=True)
    np.testing.assert_allclose(ours.reshape(-1, 3), marginals, atol=1e-5)


def test_cleans_noisy_labels():
    image, unaries, labels = _scene(classes=4, size=(36, 36))
    before = (unaries.argmin(-1) == labels).mean()
    after = (np.asarray(_inference(unaries, image, _SMALL)).argmax(-1) == labels).mean()
    assert before < 0.8
    assert after > 0.95


def test_no_iterations_give_the_unaries_and_flat_ones_stay():
    image, unaries, _ = _scene()
    np.testing.assert_allclose(_inference(unaries, image, iterations=0), jax.nn.softmax(-unaries), rtol=1e-6)
    flat = _inference(jnp.zeros_like(unaries), image, _SMALL)
    np.testing.assert_allclose(flat, np.full_like(unaries, 0.25), atol=1e-5)


def test_one_row_and_one_pixel():
    image, unaries, _ = _scene()
    for rows, columns in ((1, 1), (1, 7)):
        out = np.asarray(_inference(unaries[:rows, :columns], image[:rows, :columns]))
        np.testing.assert_allclose(out.sum(-1), 1.0, rtol=1e-5)


def test_logarithms():
    image, unaries, _ = _scene()
    np.testing.assert_allclose(
        np.exp(_inference(unaries, image, _SMALL, log=True)), _inference(unaries, image, _SMALL), rtol=1e-4
    )


def test_a_batch_is_its_images_and_padding_has_no_say():
    images, unaries = zip(*(_scene(seed=seed)[:2] for seed in range(2)))
    valid = np.ones((2, 24, 24), bool)
    valid[1, 20:], valid[1, :, 17:] = False, False
    together = np.asarray(_inference(np.stack(unaries), np.stack(images), _SMALL, valid=valid))
    np.testing.assert_allclose(together[0], _inference(unaries[0], images[0], _SMALL), atol=1e-5)
    cut = _inference(unaries[1][:20, :17], images[1][:20, :17], _SMALL)
    np.testing.assert_allclose(together[1, :20, :17], cut, atol=1e-4)
    assert np.isfinite(together).all()


def test_potts_is_the_default_compatibility():
    image, unaries, _ = _scene()
    potts = 1.0 - jnp.eye(4)
    np.testing.assert_allclose(
        _inference(unaries, image, _SMALL, compatibility=potts), _inference(unaries, image, _SMALL), atol=1e-5
    )


def test_weights_of_one_of_each_label_and_of_each_pair():
    image, unaries, _ = _scene()
    for weights in (jnp.full((4,), 5.0), 5.0 * jnp.eye(4)):
        out = _inference(unaries, image, _SMALL, appearance_weights=weights)
        np.testing.assert_allclose(out, _inference(unaries, image, _SMALL), atol=1e-5)


@pytest.mark.slow
def test_gradients_of_unaries_weights_and_compatibility():
    image, unaries, labels = _scene(classes=3, size=(7, 6))
    rng = np.random.default_rng(5)
    compatibility = jnp.asarray(1.0 - np.eye(3) + 0.1 * rng.normal(size=(3, 3)), jnp.float32)

    def loss(unaries, smooth, appearance, compatibility):
        marginals = _inference(
            unaries,
            image,
            _SMALL,
            iterations=3,
            smooth_weights=smooth,
            appearance_weights=appearance,
            compatibility=compatibility,
            log=True,
        )
        return -jnp.take_along_axis(marginals, labels[..., None] % 3, axis=-1).mean()

    arguments = jnp.asarray(unaries), 0.3 * jnp.eye(3), 0.2 * jnp.eye(3), compatibility
    check_grads(loss, arguments, order=1, modes=["rev"], rtol=2e-2, atol=1e-3)


@pytest.mark.slow
def test_a_crf_layer_starts_as_the_plain_crf_and_learns():
    image, unaries, labels = _scene(classes=4, size=(12, 12), seed=1)
    layer = DenseCRF(_SMALL, iterations=4, color_scale=(1.0, 1.0, 1.0))
    logits, images = -jnp.asarray(unaries)[None], jnp.asarray(image, jnp.float32)[None]
    variables = layer.init(jax.random.key(0), logits, images)
    np.testing.assert_allclose(
        layer.apply(variables, logits, images)[0],
        _inference(unaries, image, _SMALL, iterations=4, log=True),
        atol=1e-4,
    )

    @jax.jit
    def step(variables):
        def loss(variables):
            out = layer.apply(variables, logits, images)
            return -jnp.take_along_axis(out, labels[None, ..., None], axis=-1).mean()

        value, gradient = jax.value_and_grad(loss)(variables)
        return value, jax.tree.map(lambda p, g: p - 0.5 * g, variables, gradient)

    losses = []
    for _ in range(15):
        value, variables = step(variables)
        losses.append(float(value))
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.95 * losses[0]


def test_mistakes_are_named():
    image, unaries, _ = _scene()
    with pytest.raises(ValueError, match="color_sigma"):
        CRFKernels(color_sigma=0.0)
    with pytest.raises(ValueError, match="iterations"):
        _inference(unaries, image, iterations=-1)
    with pytest.raises(AssertionError):
        _inference(unaries, image[:-1])


@pytest.mark.slow
def test_compiles_for_a_tpu_that_is_not_there():
    pytest.importorskip("libtpu", reason="pip install libtpu brings the TPU's compiler")
    # In a process of its own, as the compiler's plug-in reads its environment once.
    program = """
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from cvjax.ops.crf.dense_crf import dense_crf

devices = topologies.get_topology_desc(topology_name="v5e:2x2", platform="tpu").devices
sharding = NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch"))
unaries = jax.ShapeDtypeStruct((4, 24, 20, 3), jnp.float32, sharding=sharding)
images = jax.ShapeDtypeStruct((4, 24, 20, 3), jnp.uint8, sharding=sharding)
compiled = jax.jit(dense_crf).lower(unaries, images).compile()
print("bytes", compiled.memory_analysis().temp_size_in_bytes)
"""
    environment = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    run = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "bytes" in run.stdout
