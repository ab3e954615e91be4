"""How builds share the folder that their objects lie in."""

from concurrent.futures import ThreadPoolExecutor

from toolchain import Builder

# Takes its time, and notes every file that it makes.
COMPILER = """#!/bin/sh
for last; do :; done
echo "$last" >> {log}
sleep 0.3
[ -e "$last.begun" ] && echo "two at once" >> {log}
touch "$last.begun"; sleep 0.3; rm "$last.begun"
echo made > "$last"
"""


def test_of_two_builds_at_once_the_second_finds_everything_made(tmp_path, monkeypatch):
    log, compiler = tmp_path / "log", tmp_path / "c++"
    compiler.write_text(COMPILER.format(log=log))
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))

    def build(_):
        builder = Builder(tmp_path / "objects")
        objects = builder.compile(["cc/lib/geometry.cc", "cc/lib/cpu/simd/dispatch.cc"])
        builder.link("program", objects, [])
        return objects

    with ThreadPoolExecutor() as pool:
        first, second = pool.map(build, range(2))
    assert first == second and all(path.read_text() == "made\n" for path in first)
    made = log.read_text().split()
    assert len(made) == len(set(made)) == 3
