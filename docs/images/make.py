"""Draws docs/images/demo.svg: the end of `make demo`. Run: `python -m docs.images.make`."""

import re
from pathlib import Path

from services.cli.demo import SIMULATED_HISTORY, Demo
from services.cli.literal import Console
from services.cli.summary import demo_summary
from services.cli.view import LiveView

TARGET = Path(__file__).with_name("demo.svg")
FONTS_FROM_ELSEWHERE = re.compile(r"@font-face \{.*?\}", re.DOTALL)
HOME = Path(".trimtab/demo")


def main() -> None:
    """Run the demo, and draw its summary as a terminal shows it."""
    paper = Console(record=True, width=116, force_terminal=True)
    demo = Demo(HOME, Path("pipelines/air_quality.yaml"), SIMULATED_HISTORY)
    demo.run(LiveView(Console()), lambda resources, home: demo_summary(paper, resources, home))
    drawing = paper.export_svg(title="make demo")
    TARGET.write_text(FONTS_FROM_ELSEWHERE.sub("", drawing), encoding="utf-8")


if __name__ == "__main__":
    main()
