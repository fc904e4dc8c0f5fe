"""Pictures of the page for the docs, of the demo's model: python -m tests.serving.screenshots out/demo docs/images."""

import sys
import tempfile
from pathlib import Path

from tests.serving.browser import browser
from tests.serving.test_clients import served

TEXT = "I was charged twice for the same order, please send the money back"
TEXTS = ["where is my card?", "cancel my order please", "the app closes when I log in", "thank you, that was quick"]


def main() -> None:
    """Answer a text and a table, in English and light, then in Chinese and dark."""
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with served({"demo": model}) as url, tempfile.TemporaryDirectory() as name, browser(Path(name)) as page:
        table = Path(name) / "messages.csv"
        table.write_text("text\n" + "".join(f'"{text}"\n' for text in TEXTS))
        page.send("Emulation.setDeviceMetricsOverride", width=900, height=1000, deviceScaleFactor=1, mobile=False)
        page.open(url)
        page.until("document.querySelector('#field-text')")
        for language, dark in (("en", False), ("zh", True)):
            page.run(f"(() => {{ $('language').value = '{language}'; $('language').onchange(); }})()")
            page.until("document.querySelector('#field-text')")
            page.run(f"(() => {{ $('field-text').value = {TEXT!r}; $('form').requestSubmit(); }})()")
            page.until("$('result').querySelector('.row.best')")
            page.choose_file("#file", table)
            page.until("document.querySelector('#columns button')")
            page.run("document.querySelector('#columns button').click()")
            page.until("$('table-status').textContent.startsWith(t('done'))")
            page.screenshot(folder / f"serve-{language}.png", dark=dark)


if __name__ == "__main__":
    main()
