"""The authors' Caffe nets: the same numbers under the same weights, and the weights back as they were."""

import caffe_reference as caffe
import jax
import numpy as np
import pytest
from agreement import Agreement

from cvjax.models import create_model, model_options
from cvjax.weights import from_torch, to_torch
from cvjax.weights.convert import recognize

# The reference's net, our model, options that the file cannot tell, and the output that ours is.
NETS = (
    ("bvlc_alexnet", "alexnet_grouped", {}, "fc8"),
    ("bvlc_reference_caffenet", "alexnet_grouped", {"pool_first": True}, "fc8"),
    ("vgg_ilsvrc_16_layers", "vgg16", {}, "fc8"),
    ("nin_imagenet", "nin", {}, "pool4"),
    ("nin_cifar10", "nin_cifar", {}, "pool3"),
    ("bvlc_googlenet", "googlenet_original", {}, "loss3|classifier"),
    ("densenet121", "densenet121", {}, "fc6"),
    ("resnet50", "resnet50", {}, "fc1000"),
    ("se_resnet50", "seresnet50", {}, "classifier"),
    ("fcn32s", "fcn32s_vgg16", {}, "score"),
    ("fcn16s", "fcn16s_vgg16", {}, "score"),
    ("fcn8s", "fcn8s_vgg16", {}, "score"),
    ("fcn8s_atonce", "fcn8s_vgg16", {}, "score"),
    ("deeplabv1_largefov", "deeplabv1_largefov_vgg16", {}, "fc8_interp"),
    ("deeplabv2_vgg16", "deeplabv2_vgg16", {}, "fc8_interp"),
    ("deeplabv2_resnet101", "deeplabv2_resnet101", {"scales": (1.0,)}, "fc1_interp"),
    ("unet_phseg_v5", "unet_original", {"in_channels": 1}, "score"),
)
# Where the file cannot tell.
LAYOUTS = {"bvlc_reference_caffenet": "caffe_caffenet"}
# What is folded away cannot come back as it was: the net computes the same without it.
FOLDED = {"resnet50": {"conv1.bias", "bn_conv1.running_mean"}}


@pytest.mark.slow
@pytest.mark.parametrize(("net", "name", "told", "output"), NETS, ids=[row[0] for row in NETS])
def test_a_net_gives_the_authors_numbers(net, name, told, output, shared_dir):
    folder = shared_dir / "reference" / "caffe"
    state, (images, outputs) = caffe.state_dict(folder, net), caffe.reference(folder, net)
    architecture, _ = recognize(name, state)
    variables = from_torch(name, state)
    options = {**architecture.options, **told}
    if "aux" in model_options(name):
        options["aux"] = any(map(architecture.is_aux, state))
    model = create_model(name, num_classes=state[architecture.classes_key].shape[0], **options)
    found = np.asarray(jax.jit(model.apply)(variables, images))
    agrees = Agreement(net, name, LAYOUTS.get(net, architecture.layout))
    agrees(found.reshape(outputs[output].shape), outputs[output])
    back = to_torch(name, variables, layout=architecture.layout)
    assert {key for key in state if not np.array_equal(state[key], back.get(key))} == FOLDED.get(net, set())
