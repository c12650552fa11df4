"""Images of emoji with their names, as data for `loram train --task images`.

npm pack emoji-datasource-google@16.0.0
python bench/emoji.py emoji-datasource-google-16.0.0.tgz --out runs/emoji/google

An image has two questions: its name, and which of Unicode's groups it is of. Flags, skin tones and
joined sequences (families, genders of one person) are left out: no image is a variant of another.
Images are 64 × 64, on white. A quarter is test: emoji that training never shows.
"""

import argparse
import io
import json
import random
import re
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

from loram.files import staged_folder, write_lines

NAME = "What is this?"
GROUP = "Which group is it of?"
JOINED = "200D"
LEFT_OUT = ("Flags", "Component")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, help="of npm pack emoji-datasource-VENDOR")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", type=float, default=0.25, help="share of images")
    options = parser.parse_args()
    vendor = re.sub(r"^emoji-datasource-|-\d.*", "", options.archive.stem)
    with tarfile.open(options.archive) as archive, staged_folder(options.out) as staging:
        table = json.loads(read(archive, "package/emoji.json"))
        wanted = {e["image"]: e for e in table if is_wanted(e, vendor)}
        if not wanted:
            raise SystemExit(f"{options.archive}: no images of {vendor!r} in its emoji.json")
        for name in wanted:
            picture = read(archive, f"package/img/{vendor}/64/{name}")
            on_white(picture).save(staging / name)
        names = sorted(wanted)
        random.Random(0).shuffle(names)
        kept = round(len(names) * (1 - options.test))
        for split, part in (("train", names[:kept]), ("test", names[kept:])):
            rows = [row for name in part for row in questions(wanted[name])]
            write_lines(staging / f"{split}.jsonl", rows)
    print(f"{options.out}: {kept} images to train on, {len(names) - kept} to test")


def read(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise SystemExit(f"{archive.name}: expected {name}, as emoji-datasource 16.0.0 has it")
    return file.read()


def is_wanted(emoji: dict[str, Any], vendor: str) -> bool:
    there = emoji.get(f"has_img_{vendor}", False)
    return there and JOINED not in emoji["unified"] and emoji["category"] not in LEFT_OUT


def on_white(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def questions(emoji: dict[str, Any]) -> list[dict[str, str]]:
    group = emoji["category"].replace("&", "and").lower()
    return [
        {"image": emoji["image"], "question": NAME, "answer": emoji["name"].lower()},
        {"image": emoji["image"], "question": GROUP, "answer": group},
    ]


if __name__ == "__main__":
    main()
