"""Saves published config.json files with transformers 5.

In test/fixtures/published-configs.json, "published" is the file on the hub in the layout of transformers 4. This script
fills in "saved", the same config as transformers 5 saves it.
"""

import json
import tempfile
from pathlib import Path

from transformers import AutoConfig

FIXTURE = Path(__file__).parents[2] / "test/fixtures/published-configs.json"


def saved(published: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(published))
        config = AutoConfig.from_pretrained(folder)
        config.save_pretrained(folder)
        return json.loads((Path(folder) / "config.json").read_text())


models = json.loads(FIXTURE.read_text())
for model in models.values():
    model["saved"] = saved(model["published"])
FIXTURE.write_text(json.dumps(models, indent=1) + "\n")
