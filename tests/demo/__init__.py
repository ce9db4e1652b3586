"""``make demo``: the main job, played on a real device-mapper, with every claim checked."""
