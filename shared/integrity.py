"""Whether the models on record are all there: who can delete records could bring an old one back.

A record that was altered is noticed by its MAC wherever it is read. One that is gone is noticed
here, by its number and by the records that name it.
"""

from collections.abc import Iterator

from shared.records import ModelVersion, Publication
from shared.store import Store


def missing_models(pipeline: str, store: Store) -> Iterator[str]:
    """What is missing of a pipeline, in sentences: versions with a later one beside them, and those
    that a reference or a commit is made of.

    Raises:
        Unauthentic: a record that is looked at was not written by this system.
    """
    query = {"pipeline": pipeline}
    newest = store.newest(ModelVersion, query, "version")
    last = newest.version if newest else 0
    kept = store.collection(ModelVersion).count_documents(query)
    if kept != last:
        yield (
            f"{pipeline}: the store has {kept} model records, and the newest is v{last}. Records "
            "were removed; restore the store from a backup"
        )
    reference = store.reference(pipeline)
    published = store.newest(Publication, query, "model_version")
    for what, version in (
        ("reference", reference.model_version if reference else 0),
        ("newest commit", published.model_version if published else 0),
    ):
        if version > last:
            yield (
                f"{pipeline}: the {what} is of model v{version}, and the newest model record is "
                f"v{last}. Records were removed; restore the store from a backup"
            )
