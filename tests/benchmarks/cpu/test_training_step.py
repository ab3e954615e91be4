import pytest

from benchmarks.cpu.training_step import synthetic_batch


@pytest.mark.parametrize("masks", [False, True])
def test_objects_lie_in_the_image_and_have_masks_where_these_are_asked_for(masks):
    inputs, targets = synthetic_batch(50, 80, masks=masks)
    assert inputs["images"].shape == (1, 50, 80, 3)
    boxes = targets["boxes"].numpy()[0]
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= [50, 80]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert ("masks" in targets, "mask_boxes" in targets) == (masks, masks)
    if masks:
        assert targets["masks"].shape == (1, 8, 112, 112) and targets["masks"].numpy().all()
        assert (targets["mask_boxes"].numpy() == targets["boxes"].numpy()).all()
