from pathlib import Path

import numpy as np
import pyarrow as pa

from models.popularity import Popularity, PopularityConfig
from tasks.train.arrays import build_interactions


def test_scores_are_the_log_of_summed_weights_for_everyone(tmp_path: Path) -> None:
    positives = pa.table(
        {"user_id": ["a", "a", "b"], "item_id": ["x", "y", "y"], "weight": [0.5, 1.0, 2.0]}
    )
    data = build_interactions(positives, tmp_path)
    model = Popularity(PopularityConfig(), data.n_users, data.n_items)
    model.fit(data)
    scores = model.user_vectors() @ model.item_vectors().T
    np.testing.assert_allclose(scores, np.tile(np.log1p([0.5, 3.0]), (2, 1)), rtol=1e-6)
    np.testing.assert_array_equal(model.cold_user_vector(), model.user_vectors()[0])
