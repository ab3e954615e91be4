import pytest

from benchmarks.cases import BOTH, FLOAT16, FLOAT32, FORWARD, TF32, ConvCase
from benchmarks.gpu.cases import BACKWARD, INPUT_GRADIENT, KERNEL_GRADIENT, OFFSET_GRADIENTS, RoICase
from benchmarks.gpu.floors import Floor, Rates, conv_bytes, conv_floor, conv_operations, roi_bytes, roi_floor

# 30 pixels of 4 channels: 120 numbers a map, 144 in the kernel, 540 offsets and 270 modulations.
CASE = ConvCase(4, 3, 5, 2)
# 2 x 3 RoIs: 294 bins.
ROI_CASE = RoICase(4, 3, 5, 16, 2, 3)


def test_operations_are_two_for_each_pixel_and_weight_and_three_times_that_with_gradients():
    assert conv_operations(CASE, FORWARD) == 2 * 144 * 30
    assert conv_operations(CASE, BOTH) == 3 * 2 * 144 * 30


def test_forward_moves_every_input_and_the_output_once():
    assert conv_bytes(CASE, FLOAT32, FORWARD) == 4 * (120 + 144 + 810 + 120)


def test_offset_and_mask_stay_float32_where_maps_are_16_bit():
    assert conv_bytes(CASE, FLOAT16, FORWARD) == 2 * (120 + 144 + 120) + 4 * 810


def test_backward_reads_the_inputs_again_and_dy_and_writes_a_gradient_for_each_input():
    inputs = 120 + 144 + 810
    assert conv_bytes(CASE, FLOAT32, BOTH) == 4 * (inputs + 120 + inputs + 120 + inputs)


def test_a_gradient_alone_moves_what_it_needs():
    coordinates = 810
    assert conv_bytes(CASE, FLOAT32, INPUT_GRADIENT) == 4 * (144 + coordinates + 120 + 120)
    assert conv_bytes(CASE, FLOAT32, OFFSET_GRADIENTS) == 4 * (120 + 144 + coordinates + 120 + coordinates)
    assert conv_bytes(CASE, FLOAT32, KERNEL_GRADIENT) == 4 * (120 + coordinates + 120 + 144)
    assert conv_operations(CASE, KERNEL_GRADIENT) == conv_operations(CASE, FORWARD)


def test_groups_have_fewer_weights_and_deformable_groups_more_offsets():
    case = ConvCase(4, 3, 5, 2, groups=2, deformable_groups=4)
    assert conv_operations(case, FORWARD) == 2 * 72 * 30
    assert conv_bytes(case, FLOAT32, FORWARD) == 4 * (120 + 72 + 4 * 810 + 120)


def test_plain_pooling_moves_features_boxes_and_output_and_backward_no_features_but_their_gradient():
    boxes = 6 * 5
    output = 294 * 4
    assert roi_bytes(ROI_CASE, FLOAT32, FORWARD, modulated=False) == 4 * (120 + boxes + output)
    assert roi_bytes(ROI_CASE, FLOAT32, BOTH, modulated=False) == 4 * (2 * (120 + boxes + output))


def test_modulated_pooling_reads_features_again_for_the_gradients_of_offset_and_mask():
    plain = roi_bytes(ROI_CASE, FLOAT32, BOTH, modulated=False)
    deformation = 3 * 294
    assert roi_bytes(ROI_CASE, FLOAT32, FORWARD, modulated=True) == 4 * (120 + 30 + deformation + 294 * 4)
    assert roi_bytes(ROI_CASE, FLOAT32, BOTH, modulated=True) == plain + 4 * (120 + 3 * deformation)


def test_a_floor_is_the_longer_of_two_times():
    assert (Floor(2.0, 1.0).seconds, Floor(2.0, 1.0).bound) == (2.0, "bytes")
    assert (Floor(1.0, 2.0).seconds, Floor(1.0, 2.0).bound) == (2.0, "FLOPs")


def test_floors_divide_by_the_measured_rates_of_the_precision():
    rates = Rates(bandwidth=1000.0, matrix={"float32": 10.0, "TF32": 20.0, "float16": 40.0})
    floor = conv_floor(CASE, FLOAT16, FORWARD, rates)
    assert floor == Floor(conv_bytes(CASE, FLOAT16, FORWARD) / 1000, 8640 / 40)
    assert roi_floor(ROI_CASE, FLOAT32, FORWARD, False, rates) == Floor(4 * (120 + 30 + 1176) / 1000, 0.0)


def test_backward_is_what_both_works_move_without_forward():
    for modulated in (False, True):
        forward, backward, both = (roi_bytes(ROI_CASE, FLOAT32, work, modulated) for work in (FORWARD, BACKWARD, BOTH))
        assert forward + backward == both


def test_float32_may_take_three_products_in_tf32_where_those_are_faster():
    assert Rates(1.0, {"float32": 10.0, "TF32": 90.0}).of(FLOAT32) == 30.0
    assert Rates(1.0, {"float32": 50.0, "TF32": 90.0}).of(FLOAT32) == 50.0
    assert Rates(1.0, {"float32": 50.0, "TF32": 90.0}).of(TF32) == 90.0


@pytest.mark.parametrize(("channels", "height", "width"), [(128, 100, 168), (256, 50, 84), (512, 25, 42)])
def test_columns_are_nine_maps(channels, height, width):
    case = ConvCase(channels, height, width, 2)
    assert case.column_bytes(FLOAT16) == 9 * 2 * height * width * channels * 2
