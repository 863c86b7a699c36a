-- grain: one of the 20 strongest causal edges of the night, over all its models
-- reads: serve.causal_edges, clean.items
WITH titles AS (
    SELECT
        item_id,
        min(title) AS title
    FROM clean.items
    WHERE ds = $ds
    GROUP BY item_id
)

SELECT
    edges.model,
    edges.cause,
    causes.title AS cause_title,
    edges.effect,
    effects.title AS effect_title,
    round(edges.strength, 2) AS strength,
    round(edges.control_strength, 2) AS control_strength,
    edges.support,
    round(edges.mean_effect, 3) AS mean_effect,
    count(*) OVER () AS n_edges
FROM serve.causal_edges AS edges
LEFT JOIN titles AS causes ON edges.cause = causes.item_id
LEFT JOIN titles AS effects ON edges.effect = effects.item_id
WHERE edges.ds = $ds
ORDER BY edges.strength DESC, edges.cause ASC, edges.effect ASC, edges.model ASC
LIMIT 20
