"""What the benchmark is asked to do."""

import argparse
import dataclasses
import os
import shutil
import sys

from benchmarks.arguments import Parser, positive_int
from benchmarks.cpu.interpreter import package_versions

SECTIONS = ("conv", "groups", "roi", "scaling", "step", "detector")

DESCRIPTION = """\
Measures deformable convolution, RoI pooling and detectors against what else there is: TensorFlow's dense convolution,
the same in plain TensorFlow ops, onnxruntime, OpenVINO and ncnn (where installed: pip install 'tf-dcnv2[bench]'), Model
Garden, torchvision. First all are checked to agree; then they take turns. Prints medians and quartiles beside the
goals, and writes results.json, results.md and benchmark.png. Goals that are missed are information, the exit status
stays 0; it is 1 if contenders disagree. Takes up to 15 minutes on 2 cores.

sections:
  conv     3x3 deformable convolution on three feature maps of a detector
  groups   the same with 32 groups, and with one for each channel
  roi      RoI pooling on a feature pyramid
  scaling  time and memory against pixels, channels and threads
  step     a training step of a deformable detector against that of a regular one
  detector time and memory of whole detectors, forward and in training, against torchvision's"""


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """Settings of a run.

    Args:
        sections: some of `SECTIONS`.
        threads: of every contender; None for as many as there are cores.
        repetitions: rounds of each measurement; None for 21, or 3 with `quick`.
        quick: tiny sizes, which show that everything works and nothing else.
        image: (height, width) in pixels of the image that whole detectors get, in the sections step and detector;
            None for 512 x 800.
        torch_python: the interpreter that runs contenders of PyTorch, which may be of another environment; None for
            this one.
        output: folder of the results.

    Raises:
        ValueError: one of them makes no sense.
    """

    sections: tuple[str, ...] = SECTIONS
    threads: int | None = None
    repetitions: int | None = None
    quick: bool = False
    image: tuple[int, int] | None = None
    torch_python: str | None = None
    output: str = "runs/benchmark"

    def __post_init__(self) -> None:
        unknown = [name for name in self.sections if name not in SECTIONS]
        if unknown or not self.sections:
            received = ",".join(self.sections)
            raise ValueError(f"sections must be some of {', '.join(SECTIONS)}. Received: {received!r}")
        cores = available_cores()
        if self.threads is None:
            object.__setattr__(self, "threads", cores)
        if not 1 <= self.threads <= cores:
            raise ValueError(
                f"threads must be between 1 and the {cores} cores this process may use: more would only wait for each "
                f"other. Received: {self.threads}"
            )
        if self.repetitions is None:
            object.__setattr__(self, "repetitions", 3 if self.quick else 21)
        if self.repetitions < 1:
            raise ValueError(f"repetitions must be at least 1. Received: {self.repetitions}")
        if self.image is not None and min(self.image) < 1:
            raise ValueError(f"image must be a positive height and width. Received: {self.image}")
        if self.torch_python is None:
            object.__setattr__(self, "torch_python", sys.executable)
        else:
            object.__setattr__(self, "torch_python", _interpreter(self.torch_python))


def parse(arguments: list[str] | None = None) -> BenchmarkOptions:
    """The command's options.

    Raises:
        SystemExit: they make no sense; the message says why.
    """
    parser = Parser(prog="python -m benchmarks.cpu", description=DESCRIPTION)
    parser.add_argument(
        "--output", default=BenchmarkOptions.output, metavar="DIR", help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--threads", type=positive_int, metavar="N", help="of every contender (default: all cores)")
    parser.add_argument(
        "--repetitions", type=positive_int, metavar="N", help="rounds, fewer where a run takes seconds (default: 21)"
    )
    parser.add_argument(
        "--sections",
        type=lambda text: tuple(text.split(",")),
        default=SECTIONS,
        metavar="LIST",
        help=f"some of {','.join(SECTIONS)}, separated by commas (default: all)",
    )
    parser.add_argument(
        "--image",
        type=_image_size,
        metavar="HxW",
        help="size of the image that whole detectors get, in pixels (default: 512x800)",
    )
    parser.add_argument(
        "--torch-python",
        metavar="PATH",
        help="interpreter that runs contenders of PyTorch, which may be of another environment (default: this one)",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, not how fast")
    values = vars(parser.parse_args(arguments))
    try:
        return BenchmarkOptions(**values)
    except ValueError as error:
        parser.error(str(error))


def _interpreter(python: str) -> str:
    """Its absolute path, as processes start in another folder; a link is kept: it may stand for an environment."""
    path = os.path.abspath(shutil.which(python) or python)
    try:
        package_versions(path, [])
    except ValueError as error:
        raise ValueError(f"torch_python must be a Python interpreter. Received: {python!r}") from error
    return path


def _image_size(text: str) -> tuple[int, int]:
    try:
        height, width = map(int, text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes HEIGHTxWIDTH, such as 512x800. Received: {text!r}") from None
    return height, width
