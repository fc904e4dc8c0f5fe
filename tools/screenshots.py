"""Screenshots of reports for the documentation, from the sample data: `python -m tools.screenshots [FOLDER]`.

Needs Chromium and a font with Chinese characters (Debian: apt-get install chromium fonts-wqy-microhei). It trains
minilm on three samples, a few minutes on two cores, and writes docs/images/report-KIND.png: classification in light,
entities in dark, answers in Chinese.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import bertune
from bertune.report.options import ReportOptions
from bertune.report.write import write_report

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "src/bertune/samples"
SIZE = "900,1500"
KINDS: dict[str, dict[str, Any]] = {
    "classification": {"task": "text-classification", "sample": "intents", "suffix": "csv", "epochs": 6},
    "entities": {"task": "token-classification", "sample": "entities", "suffix": "conll", "epochs": 8},
    "answers": {"task": "question-answering", "sample": "handbook", "suffix": "json", "epochs": 6},
}


def main() -> None:
    """Train, report, photograph."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("tools.screenshots needs Chromium (Debian: apt-get install chromium)")
    if not subprocess.run(["fc-list", ":lang=zh"], check=True, capture_output=True).stdout:
        sys.exit("tools.screenshots needs a font with Chinese characters (Debian: apt-get install fonts-wqy-microhei)")
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/images"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for kind, run in KINDS.items():
            data = {role: SAMPLES / run["sample"] / f"{file}.{run['suffix']}"
                    for role, file in (("train", "train"), ("validation", "dev"))}  # fmt: skip
            output = Path(name) / kind
            bertune.train(
                task=run["task"], encoder="minilm", **data, output=output, epochs=run["epochs"], learning_rate=2e-4,
                baselines=True,
            )  # fmt: skip
            language = "zh" if kind == "answers" else "en"
            page = write_report(output, ReportOptions(language=language)).html
            dark = ["--blink-settings=preferredColorScheme=0"] if kind == "entities" else []
            command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *dark,
                       f"--user-data-dir={name}/profile", f"--window-size={SIZE}",
                       f"--screenshot={target / f'report-{kind}.png'}", page.as_uri()]  # fmt: skip
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
