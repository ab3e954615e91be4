"""The benchmark's findings as markdown and as JSON, and the line that sums them up."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cpu.options import BenchmarkOptions
from benchmarks.cpu.section import Section
from benchmarks.report import as_markdown, goals_table


def markdown(machine: Mapping[str, Any], options: BenchmarkOptions, sections: Sequence[Section]) -> str:
    """All tables under a description of machine and method."""
    busy = machine["busy_cores"]
    parts = [
        f"{describe(machine)}. {method(options).capitalize()}. Other programs kept {_cores(busy['before'])} busy "
        f"before and {_cores(busy['after'])} after."
    ]
    for section in sections:
        parts += map(as_markdown, section.tables)
        if section.goals:
            parts.append(as_markdown(goals_table(section.goals)))
    return "\n\n".join(parts) + "\n"


def method(options: BenchmarkOptions) -> str:
    """How it was measured, in one line."""
    threads, rounds = options.threads, options.repetitions
    sizes = ", tiny sizes" if options.quick else ""
    return f"{threads} {_plural('thread', threads)}, {rounds} interleaved {_plural('round', rounds)}{sizes}"


def to_json(machine: Mapping[str, Any], options: BenchmarkOptions, sections: Sequence[Section]) -> str:
    """Everything, for programs."""
    results = {
        "machine": machine,
        "options": {"threads": options.threads, "repetitions": options.repetitions, "quick": options.quick},
        "sections": {section.name: section.to_dict() for section in sections},
    }
    return json.dumps(results, indent=1) + "\n"


def describe(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    cores = machine["cores"]
    return (
        f"{machine['processor']}, {cores} {_plural('core', cores)}, {machine['memory_gb']} GB, {machine['system']}, "
        f"instruction set {machine['instruction_set']}; tf-dcnv2 {machine['tf_dcnv2']}, Python {machine['python']}, "
        f"{packages}"
    )


def verdict(sections: Sequence[Section]) -> str:
    """How many goals are met."""
    goals = [goal for section in sections for goal in section.goals]
    met = sum(goal.met for goal in goals)
    return f"{met} of {len(goals)} goals met"


def _cores(busy: float | None) -> str:
    return "an unknown number of cores" if busy is None else f"{busy:.1f} cores"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
