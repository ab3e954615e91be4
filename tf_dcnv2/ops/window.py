"""The window of a convolution: what users say about it, checked once, and the sizes that follow from it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from tf_dcnv2.ops import arguments
from tf_dcnv2.ops.shapes import Size

Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
_Sides: TypeAlias = tuple[Size, Size]  # pixels before and after an axis


@dataclasses.dataclass(frozen=True)
class Window:
    """How a convolution's window moves over its input, and where the taps are before offsets move them.

    The fields are attributes of the custom ops, by the same names. `from_arguments` checks and makes them; the size of
    the window is not among them, because it follows from the kernel.

    Attributes:
        strides: rows and columns between two outputs.
        padding: "SAME" (TensorFlow's and Keras' rule), "VALID" or "EXPLICIT".
        explicit_paddings: pixels (top, bottom, left, right) with "EXPLICIT", otherwise empty.
        dilations: rows and columns between two taps.
        deformable_groups: groups of input channels that offsets move separately; an ordinary convolution ignores it.
    """

    strides: tuple[int, int]
    padding: str
    explicit_paddings: tuple[int, ...]
    dilations: tuple[int, int]
    deformable_groups: int

    @classmethod
    def from_arguments(
        cls,
        *,
        strides: int | Sequence[int] = 1,
        padding: Padding = "same",
        dilation_rate: int | Sequence[int] = 1,
        deformable_groups: int = 1,
    ) -> "Window":
        """The window that the arguments of `tf_dcnv2.ops.deform_conv2d` describe.

        Raises:
            ValueError: an argument is not one of its accepted forms, or out of range; the message names it.

        Example:
            >>> Window.from_arguments(strides=2, padding=1).output_size((7, 8), kernel_size=(3, 3))
            (4, 4)
        """
        mode, pixels = _padding_mode(padding)
        return cls(
            strides=arguments.pair(strides, "strides"),
            padding=mode,
            explicit_paddings=pixels,
            dilations=arguments.pair(dilation_rate, "dilation_rate"),
            deformable_groups=arguments.integer(deformable_groups, "deformable_groups", minimum=1),
        )

    @classmethod
    def from_op(cls, op: tf.Operation) -> "Window":
        """The window of a custom op, forward or gradient, as its own gradient function receives it."""
        return cls(
            strides=tuple(op.get_attr("strides")),
            padding=tf.compat.as_str(op.get_attr("padding")),
            explicit_paddings=tuple(op.get_attr("explicit_paddings")),
            dilations=tuple(op.get_attr("dilations")),
            deformable_groups=op.get_attr("deformable_groups"),
        )

    def attributes(self) -> dict[str, Any]:
        """The attributes of a custom op with this window."""
        return dataclasses.asdict(self)

    @property
    def padding_argument(self) -> Padding:
        """The padding in a form that `from_arguments` takes: "same", "valid" or ((top, bottom), (left, right))."""
        return (self._sides(0), self._sides(1)) if self.explicit_paddings else self.padding.lower()

    def __str__(self) -> str:
        """The arguments by name, for messages."""
        return f"strides={self.strides}, padding={self.padding_argument!r}, dilation_rate={self.dilations}"

    def samples_per_pixel(self, kernel_size: Sequence[Size]) -> Size:
        """Positions sampled for one output pixel: one for each deformable group and tap."""
        return kernel_size[0] * kernel_size[1] * self.deformable_groups

    def output_size(
        self, size: Sequence[Size | None], kernel_size: Sequence[Size | None]
    ) -> tuple[Size | None, Size | None]:
        """Rows and columns of the output.

        Args:
            size: rows and columns of the input: ints, scalar tensors, or `None` where unknown.
            kernel_size: rows and columns of the kernel, likewise.

        Returns:
            Sizes of the same kinds. One below 0 means that the window does not fit the padded input.
        """
        rows, columns = (self._output_length(axis, size[axis], kernel_size[axis]) for axis in (0, 1))
        return rows, columns

    def _output_length(self, axis: int, length: Size | None, taps: Size | None) -> Size | None:
        stride = self.strides[axis]
        if length is None or (taps is None and self.padding != "SAME"):
            return None
        if self.padding == "SAME":
            return _rounded_up(length, stride)
        return (length + sum(self._sides(axis)) - self._extent(axis, taps) + stride) // stride

    def padding_pixels(self, size: Sequence[Size], kernel_size: Sequence[Size]) -> tuple[_Sides, _Sides]:
        """Rows and columns of zeros around the input, ((top, bottom), (left, right)).

        Args:
            size: rows and columns of the input, ints or scalar tensors.
            kernel_size: rows and columns of the kernel, likewise.

        Returns:
            ints, or scalar tensors where they depend on one.
        """
        if self.padding != "SAME":
            return self._sides(0), self._sides(1)
        rows, columns = (self._same_sides(axis, size[axis], kernel_size[axis]) for axis in (0, 1))
        return rows, columns

    def _same_sides(self, axis: int, length: Size, taps: Size) -> _Sides:
        outputs = _rounded_up(length, self.strides[axis])
        missing = (outputs - 1) * self.strides[axis] + self._extent(axis, taps) - length
        total = tf.maximum(missing, 0) if tf.is_tensor(missing) else max(missing, 0)
        return total // 2, total - total // 2

    def _sides(self, axis: int) -> tuple[int, int]:
        """Pixels before and after the input, where they do not depend on its size."""
        if not self.explicit_paddings:
            return 0, 0
        before, after = self.explicit_paddings[2 * axis : 2 * axis + 2]
        return before, after

    def _extent(self, axis: int, taps: Size) -> Size:
        """Pixels from the first to the last of `taps`, both included."""
        return (taps - 1) * self.dilations[axis] + 1


def _padding_mode(padding: Padding) -> tuple[str, tuple[int, ...]]:
    """Splits any accepted form of `padding` into the fields `padding` and `explicit_paddings`."""
    if isinstance(padding, str):
        if padding.lower() in ("same", "valid"):
            return padding.upper(), ()
    else:
        try:
            sides = padding if arguments.is_sequence(padding) else (padding, padding)
            rows, columns = (arguments.pair(side, "padding", minimum=0) for side in sides)
            return "EXPLICIT", (*rows, *columns)
        except ValueError:
            pass
    raise ValueError(
        'padding must be "same", "valid", an integer of at least 0, a pair (rows, columns), or '
        f"((top, bottom), (left, right)). Received: padding={padding!r}."
    )


def _rounded_up(length: Size, divisor: int) -> Size:
    """`length / divisor`, rounded up, for natural numbers; ints or scalar tensors.

    Not `-(-length // divisor)`: a graph that is converted to ONNX rounds negative quotients towards zero.
    """
    least = tf.minimum if tf.is_tensor(length) else min
    return length // divisor + least(length % divisor, 1)
