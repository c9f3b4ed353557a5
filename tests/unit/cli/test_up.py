"""What `trimtab up` says of settings before it starts anything."""

from pathlib import Path

import yaml

from services.cli.up import doubtful_settings
from shared.pipeline import load_pipelines

PARCELS = Path(__file__).parents[3] / "examples" / "parcels" / "parcels.yaml"


def test_a_pipeline_whose_settings_can_never_promote_is_named(tmp_path: Path) -> None:
    content = yaml.safe_load(PARCELS.read_text())
    (tmp_path / "sound.yaml").write_text(yaml.safe_dump(content))
    stuck = content | {"name": "stuck", "publish": {"directory": "stuck"}}
    stuck["gate"] = {"min_rows": 150_000}
    (tmp_path / "stuck.yaml").write_text(yaml.safe_dump(stuck))
    (said,) = doubtful_settings(load_pipelines(tmp_path))
    assert said.startswith("pipeline stuck: no new model can ever be promoted")
