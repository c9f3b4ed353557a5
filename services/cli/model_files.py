"""`trimtab models load`: a model's bytes out of the store, as they were sealed."""

from pathlib import Path

from shared.artifacts import TamperedArtifact, verify
from shared.failures import WillNotPass
from shared.records import ModelVersion
from shared.settings import Settings
from shared.store import Store


def write_model(
    model: ModelVersion, file: Path, store: Store, settings: Settings
) -> dict[str, bool]:
    """Write a version's bytes, verified; says under `seal_verified` whether the key was at hand.

    Raises:
        WillNotPass: the bytes are gone or are not those of the record, or the file cannot be
            written.
    """
    data = store.blob(model.model)
    key = settings.model_signing_key
    try:
        if key:
            verify(data, model, key)
        file.write_bytes(data)
    except TamperedArtifact as error:
        raise WillNotPass(f"v{model.version} of {model.pipeline}: {error}") from None
    except OSError as error:
        raise WillNotPass(f"cannot write {file}: {error.strerror}") from None
    return {"seal_verified": key is not None}
