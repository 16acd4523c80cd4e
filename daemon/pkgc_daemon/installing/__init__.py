"""Installing: plan a change of an environment and make it wholly or not at all; it fetches nothing."""
