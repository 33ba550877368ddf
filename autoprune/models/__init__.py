"""Models and processors: loaded from disk or the hub, or made with random weights; and the machine they run on."""
