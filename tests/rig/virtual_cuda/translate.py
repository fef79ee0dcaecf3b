"""Rewrites CUDA C++ for g++: kernel launches and shared memory; lines keep their numbers."""

import re
from pathlib import Path


def close_of(text: str, start: int, pair: str = "()") -> int:
    """Position of the bracket that closes the one at ``start``."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == pair[0]) - (text[i] == pair[1])
        if depth == 0:
            return i
    raise ValueError(f"no closing {pair[1]}")


def split_commas(text: str) -> list[str]:
    parts, depth, last = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            parts.append(text[last:i])
            last = i + 1
    return [*parts, text[last:]]


def rewrite_launches(text: str, file: str) -> str:
    """``kernel<T><<<grid, block, smem, stream>>>(args)`` to a call of ``cuemu::launch``."""
    while (at := text.find("<<<")) >= 0:
        end = text.index(">>>", at)
        config = split_commas(text[at + 3 : end])
        config += ["0"] * (4 - len(config))
        open_args = text.index("(", end)
        close = close_of(text, open_args)
        begin = len(text[:at].rstrip())
        if text[begin - 1] == ">":  # template arguments
            depth = 0
            while True:
                begin -= 1
                depth += (text[begin] == ">") - (text[begin] == "<")
                if depth == 0:
                    break
        begin = re.search(r"[\w:]+$", text[:begin]).start()
        kernel = text[begin:at].rstrip()
        label = " ".join(kernel.split())
        line = text.count("\n", 0, at) + 1
        gap = "\n" * text[begin:open_args].count("\n")
        text = (
            f'{text[:begin]}::cuemu::launch("{label}", "{file}", {line}, {config[0]}, {config[1]}, '
            f"{config[2]}, {config[3]}, [&] {{ {gap}{label}"
            f"{text[open_args : close + 1]}; }}){text[close + 1 :]}"
        )
    return text


def rewrite_shared(text: str) -> str:
    """``__shared__`` variables become static ones that the engine knows."""
    text = re.sub(
        r"extern\s+__shared__\s+(?:__align__\(\w+\)\s+)?([\w ]+?)\s+(\w+)\[\];",
        r"\1* \2 = static_cast<\1*>(::cuemu::dynamic_shared());",
        text,
    )

    def one(match: re.Match) -> str:
        names = [
            re.match(r"[^\[=]*?(\w+)\s*(?=\[|$)", d.strip())[1] for d in split_commas(match[1])
        ]
        calls = "".join(f' ::cuemu::shared(&{n}, sizeof {n}, "{n}");' for n in names)
        return f"static {match[1]};{calls}"

    return re.sub(r"__shared__\s+([^;]+);", one, text)


def translate(source: Path, target: Path) -> None:
    text = source.read_text()
    text = rewrite_shared(rewrite_launches(text, source.name))
    text = text.replace("__noinline__", "__attribute__((noinline))")
    target.parent.mkdir(parents=True, exist_ok=True)
    new = f'#line 1 "{source.name}"\n{text}'
    if not target.exists() or target.read_text() != new:
        target.write_text(new)


def translate_folder(folder: Path, target: Path) -> list[Path]:
    """Translates all kernels of a folder; returns the C++ files."""
    for path in folder.glob("*.cuh"):
        translate(path, target / path.name)
    sources = [path for path in sorted(folder.glob("*.cu")) if path.name != "primitives.cu"]
    for path in sources:
        translate(path, target / f"{path.stem}.cpp")
    return [target / f"{path.stem}.cpp" for path in sources]
