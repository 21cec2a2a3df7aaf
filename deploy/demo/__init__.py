"""`make demo`: a cluster, the operator, a served pair, an answer."""
