"""The authors' Caffe nets from files in their format: the same numbers, and the weights back as they were."""

import caffe_reference as caffe
import jax
import numpy as np
import published_files
import pytest
from agreement import Agreement

from cvjax.models import create_model
from cvjax.weights import open_weights, to_torch

# The reference's net, our model and layout that are found, and the output that ours is. Where a file leaves the layout
# open, the user tells it; and the file of DeepLab v2 does not say that one of its three scales is to be computed.
NETS = (
    ("bvlc_alexnet", "alexnet_grouped", "caffe", "fc8"),
    ("bvlc_reference_caffenet", "alexnet_grouped", "caffe_caffenet", "fc8"),
    ("vgg_ilsvrc_16_layers", "vgg16", "caffe", "fc8"),
    ("nin_imagenet", "nin", "caffe", "pool4"),
    ("nin_cifar10", "nin_cifar", "caffe", "pool3"),
    ("bvlc_googlenet", "googlenet_original", "caffe", "loss3|classifier"),
    ("densenet121", "densenet121", "caffe", "fc6"),
    ("resnet50", "resnet50", "caffe", "fc1000"),
    ("se_resnet50", "seresnet50", "caffe", "classifier"),
    ("fcn32s", "fcn32s_vgg16", "caffe", "score"),
    ("fcn16s", "fcn16s_vgg16", "caffe", "score"),
    ("fcn8s", "fcn8s_vgg16", "caffe", "score"),
    ("fcn8s_atonce", "fcn8s_vgg16", "caffe_at_once", "score"),
    ("deeplabv1_largefov", "deeplabv1_largefov_vgg16", "caffe", "fc8_interp"),
    ("deeplabv2_vgg16", "deeplabv2_vgg16", "caffe", "fc8_interp"),
    ("deeplabv2_resnet101", "deeplabv2_resnet101", "caffe", "fc1_interp"),
    ("unet_phseg_v5", "unet_original", "caffe", "score"),
)
TOLD = {"bvlc_reference_caffenet": "caffe_caffenet"}
OPTIONS = {"deeplabv2_resnet101": {"scales": (1.0,)}}
# What is folded away cannot come back as it was: the net computes the same without it.
FOLDED = {"resnet50": {"conv1.bias", "bn_conv1.running_mean"}}


@pytest.mark.slow
@pytest.mark.parametrize(("net", "name", "layout", "output"), NETS, ids=[row[0] for row in NETS])
def test_a_net_gives_the_authors_numbers(net, name, layout, output, shared_dir, tmp_path):
    folder = shared_dir / "reference" / "caffe"
    opened = published_files.open_caffe(folder, net, tmp_path, layout=TOLD.get(net))
    assert opened.model == name
    assert f"in the layout of {layout}" in opened.whose
    model = create_model(name, num_classes=opened.num_classes, **(opened.options | OPTIONS.get(net, {})))
    images, outputs = caffe.reference(folder, net)
    found = np.asarray(jax.jit(model.apply)(opened.variables, images))
    Agreement(net, name, layout)(found.reshape(outputs[output].shape), outputs[output])
    state, back = opened.state_dict, to_torch(name, opened.variables, layout=layout)
    assert {key for key in state if not np.array_equal(state[key], back.get(key))} == FOLDED.get(net, set())


def test_a_file_that_opencv_read_opens(shared_dir):
    """The one .caffemodel of a whole net that is stored, in V1."""
    folder = shared_dir / "reference" / "caffe"
    opened = open_weights(folder / "outputs" / "nin_cifar10.caffemodel")
    assert opened.model == "nin_cifar"
    drawn = caffe.state_dict(folder, "nin_cifar10")
    assert opened.state_dict.keys() == drawn.keys()
    assert all(np.array_equal(opened.state_dict[key], value) for key, value in drawn.items())
