"""The nets of the study of proposals: who gets proposals, and who shares a backbone."""

import pytest

from experiments.studies.proposals import ProposalSettings, config_of

SETTINGS = ProposalSettings()


@pytest.mark.parametrize("name", SETTINGS.nets)
def test_a_net_reads_proposals_exactly_where_it_needs_them(name):
    config = config_of(SETTINGS, name)
    model = config.model.build(num_classes=3)
    assert config.input.proposals == (300 if getattr(model, "needs_proposals", False) else 0)
    assert (config.steps, config.batch_size, config.input.crop) == (120, 8, (128, 128))


def test_three_nets_share_one_backbone():
    first, *others = (
        config_of(SETTINGS, name).model.build(num_classes=3).backbone
        for name in ("R-CNN", "Fast R-CNN", "Faster R-CNN")
    )
    assert first.widths == others[0].widths == others[1].widths
    assert first.stage_sizes == others[0].stage_sizes == others[1].stage_sizes
